<?php

namespace Auditq\Laravel;

/**
 * Writes the statements of one request as one message.
 *
 * Around it is the payload of a job of Laravel's. Everything that must come through unharmed is one text in it, JSON
 * again: Laravel's pop in Redis writes the rest anew, and damages numbers and empty lists in it.
 */
final class Payload
{
    private const FLAGS = JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR;

    /** How many statements are in the message, and how many were left out. */
    public int $count = 0;
    public int $ignored = 0;

    /** The last number that was given to an event. */
    public int $seq = 0;

    /** @var array<int, int> The number of each event, by the key of its entry. */
    public array $numbers = [];

    /** @var array<string, int> */
    private array $statements = [];

    /** @var list<string> */
    private array $texts = [];

    /** @var list<Secret> */
    private array $found = [];

    /** @var array<int, int> */
    private array $databases = [];

    /** @var list<array<string, string>> */
    private array $databaseList = [];

    /** @var array<string, int> */
    private array $seen = [];

    /** Finds the first table of a statement; null when none is ignored. */
    private readonly ?string $ignoredTables;

    /** Matches those that are. */
    private readonly string $ignoredNames;

    /**
     * @param array<string, mixed> $config
     * @param array<string, mixed> $origin
     * @param list<array<string, string>> $actors
     */
    public function __construct(
        private readonly array $config,
        private readonly Secrets $secrets,
        private readonly string $producer,
        private readonly array $origin,
        private readonly array $actors,
    ) {
        $names = array_map(fn (string $name) => str_replace('\*', '\w*', preg_quote($name, '/')), $config['ignore']['tables']);
        $this->ignoredTables = $names === [] ? null
            : '/\b(?:from|into|update|join|table(?:\s+if(?:\s+not)?\s+exists)?)\s+(?:[`"\[]?\w+[`"\]]?\.)?[`"\[]?(\w+)/i';
        $this->ignoredNames = '/^(?:' . implode('|', $names) . ')$/i';
    }

    /** Microseconds since 1970. */
    public static function micros(float $seconds): int
    {
        return (int) round($seconds * 1e6);
    }

    /**
     * @param array<int, array<int, mixed>> $entries
     * @param array<string, list<array{int, int}>> $outcomes
     * @param array{lost: int, first_at: int, last_at: int}|null $gap
     * @param int $seq the last number that the request has used
     */
    public function of(array $entries, array $outcomes, ?array $gap, int $seq): ?Message
    {
        $this->seq = $seq;
        $items = $gap === null ? [] : [self::json(['seq' => ++$this->seq] + $gap + ['reason' => 'the application could not hand them over'])];
        foreach ($this->collapsed($entries) as $item) {
            $items[] = $this->item($item);
        }
        foreach ($outcomes as $outcome => $events) {
            $items[] = self::json(['outcome' => $outcome, 'of' => $events]);
        }
        return $items === [] ? null : $this->message($items);
    }

    /** @return iterable<array<string, mixed>> what becomes an item, each once */
    private function collapsed(array $entries): iterable
    {
        $mode = $this->config['duplicates'];
        $ttl = (float) $this->config['ttl'];
        $kept = [];
        foreach ($entries as $key => $entry) {
            $statement = $this->statement($entry);
            if ($statement === null) {
                $this->ignored++;
                continue;
            }
            $secret = $this->found[$statement];
            [$bindings, $hidden] = $this->bindings($entry, $secret);
            $item = ['key' => $key, 'entry' => $entry, 'statement' => $statement, 'database' => $this->database($entry[Recorder::TAP]), 'bindings' => $bindings, 'repeat' => 1, 'last' => $entry[Recorder::AT]];
            if ($mode === 'off') {
                $kept[] = $item;
                continue;
            }
            $same = implode("\0", [$statement, $item['database'], $entry[Recorder::ACTOR], $entry[Recorder::TX], $entry[Recorder::ERROR][0] ?? '', $bindings, $hidden]);
            $first = $this->seen[$same] ?? null;
            if ($first !== null && $entry[Recorder::AT] - $kept[$first]['entry'][Recorder::AT] <= $ttl) {
                if ($mode !== 'drop') {
                    $kept[$first]['repeat']++;
                    $kept[$first]['last'] = $entry[Recorder::AT];
                }
                continue;
            }
            $this->seen[$same] = count($kept);
            $kept[] = $item;
        }
        return $kept;
    }

    /** The place of the entry's statement among the texts; null when its table is ignored. */
    private function statement(array $entry): ?int
    {
        $system = $entry[Recorder::TAP]->database['system'];
        $known = $system . $entry[Recorder::SQL];
        if (array_key_exists($known, $this->statements)) {
            return $this->statements[$known];
        }
        return $this->statements[$known] = $this->isIgnored($entry[Recorder::SQL]) ? null : $this->newStatement($entry[Recorder::SQL], $system);
    }

    private function newStatement(string $sql, string $system): int
    {
        $limit = (int) $this->config['limits']['sql_bytes'];
        $head = strlen($sql) > $limit ? mb_strcut($sql, 0, $limit, 'UTF-8') : $sql;
        $secret = $this->secrets->of($head, $system);
        if ($head !== $sql && ($secret->places !== [] || $secret->literals !== [] || $this->secrets->mayHold($sql))) {
            // Nobody has read where the rest puts its secrets.
            $secret = new Secret($secret->sql, $secret->places, $secret->names, $secret->literals, true);
        }
        $this->found[] = $secret;
        // The hash of a secret that was taken out must not lead back to it.
        $whole = $secret->literals === [] && ! $secret->all ? $sql : $secret->sql;
        $this->texts[] = $head === $sql ? self::json($secret->sql)
            : self::json(['sql' => $secret->sql, 'len' => strlen($sql), 'sha256' => hash('sha256', $whole)]);
        return count($this->texts) - 1;
    }

    private function isIgnored(string $sql): bool
    {
        return $this->ignoredTables !== null && preg_match($this->ignoredTables, $sql, $found) === 1
            && preg_match($this->ignoredNames, $found[1]) === 1;
    }

    private function database(Tap $tap): int
    {
        $id = spl_object_id($tap);
        if (! isset($this->databases[$id])) {
            $this->databaseList[] = $tap->database;
            $this->databases[$id] = count($this->databaseList) - 1;
        }
        return $this->databases[$id];
    }

    /** @return array{string, string} the bindings as they are sent, and what tells hidden ones apart, for this process only */
    private function bindings(array $entry, Secret $secret): array
    {
        $values = $entry[Recorder::BINDINGS];
        if ($values === []) {
            return ['[]', ''];
        }
        $names = array_keys($values);
        if (is_string($names[0])) {
            usort($names, fn ($one, $other) => $secret->placeOf($one) <=> $secret->placeOf($other));
        }
        $room = (int) $this->config['limits']['bindings_bytes'];
        $limits = $this->config['limits'];
        $out = [];
        $hidden = '';
        foreach (array_slice($names, 0, (int) $limits['bindings_count']) as $index => $name) {
            $value = $values[$name];
            if ($value !== null && $secret->hides($index, $name)) {
                $hidden .= "\0" . ($value instanceof Kept ? $value->raw : $value);
                $out[] = $this->secrets->hidden($value);
                continue;
            }
            $plain = $this->plain($value, $room);
            $room -= is_string($plain) ? strlen($plain) : 16;
            $out[] = $plain;
        }
        return [self::json($out), $hidden];
    }

    private function plain(mixed $value, int $room): mixed
    {
        if (is_string($value)) {
            if (strlen($value) > max($room, 64)) {
                return Kept::cut($value)->json;
            }
            return mb_check_encoding($value, 'UTF-8') ? $value : Kept::bytes($value)->json;
        }
        if (is_float($value) && ! is_finite($value)) {
            return Kept::float($value)->json;
        }
        return $value instanceof Kept ? $value->json : $value;
    }

    /** @param array<string, mixed> $item */
    private function item(array $item): string
    {
        $entry = $item['entry'];
        $this->numbers[$item['key']] = ++$this->seq;
        $this->count++;
        $at = self::micros($entry[Recorder::AT]);
        $json = '{"seq":' . $this->seq . ',"at":' . $at . ',"us":' . $entry[Recorder::US] . ',"statement":' . $item['statement']
            . ',"database":' . $item['database'] . ',"actor":' . $entry[Recorder::ACTOR] . ',"bindings":' . $item['bindings'];
        $total = count($entry[Recorder::BINDINGS]);
        if ($total > $this->config['limits']['bindings_count']) {
            $json .= ',"bindings_total":' . $total;
        }
        foreach (['affected' => Recorder::AFFECTED, 'returned' => Recorder::RETURNED] as $name => $field) {
            if ($entry[$field] !== null && $entry[$field] >= 0) {
                $json .= ",\"$name\":" . $entry[$field];
            }
        }
        if ($entry[Recorder::TX] !== null) {
            $json .= ',"tx":"' . $entry[Recorder::TX] . '"';
        }
        if ($entry[Recorder::OUTCOME] !== null) {
            $json .= ',"outcome":"' . $entry[Recorder::OUTCOME] . '"';
        }
        if ($item['repeat'] > 1) {
            $json .= ',"repeat":' . $item['repeat'] . ',"last_at":' . self::micros($item['last']);
        }
        return $json . $this->error($entry, $this->found[$item['statement']]) . '}';
    }

    private function error(array $entry, Secret $secret): string
    {
        if ($entry[Recorder::ERROR] === null) {
            return '';
        }
        [$code, $message] = $entry[Recorder::ERROR];
        $message = mb_scrub($message, 'UTF-8');
        $message = $this->secrets->redactError($message, $secret, $entry[Recorder::BINDINGS]);
        $message = mb_strcut($message, 0, (int) $this->config['limits']['error_bytes'], 'UTF-8');
        return ',"status":"error","error_code":' . self::json($code) . ',"error":' . self::json($message);
    }

    /** @param list<string> $items */
    private function message(array $items): Message
    {
        $uuid = self::uuid();
        $batch = '{"actors":' . self::json($this->actors) . ',"databases":' . self::json($this->databaseList)
            . ',"statements":[' . implode(',', $this->texts) . '],"items":[' . implode(',', $items) . ']}';
        $count = count($items);
        return new Message($uuid, self::json([
            'uuid' => $uuid,
            'displayName' => "auditq: $count queries",
            'job' => 'auditq@queries',
            'maxTries' => null,
            'maxExceptions' => null,
            'failOnTimeout' => false,
            'backoff' => null,
            'timeout' => null,
            'data' => [
                'auditq' => 1,
                'producer' => $this->producer,
                'app' => (string) $this->config['app'],
                'host' => (string) gethostname(),
                'pid' => (int) getmypid(),
                'origin' => (object) $this->origin,
                'count' => $count,
                'batch' => $batch,
            ],
            'createdAt' => time(),
            'id' => $uuid,
            'attempts' => 0,
        ]));
    }

    private static function uuid(): string
    {
        $bytes = random_bytes(16);
        $bytes[6] = chr(ord($bytes[6]) & 0x0F | 0x40);
        $bytes[8] = chr(ord($bytes[8]) & 0x3F | 0x80);
        return vsprintf('%s%s-%s-%s-%s-%s%s%s', str_split(bin2hex($bytes), 4));
    }

    private static function json(mixed $value): string
    {
        return json_encode($value, self::FLAGS);
    }
}
