<?php

namespace Auditq\Laravel;

use Auditq\Laravel\Handover\Handover;
use Closure;
use Illuminate\Contracts\Container\Container;
use Throwable;

/**
 * Holds the statements of one request, and hands them over when it is done or when there are many.
 *
 * Nothing that goes wrong in here reaches the application: it is counted, and said once a process in the log.
 */
final class Recorder
{
    /** Fields of an entry. */
    public const AT = 0, US = 1, SQL = 2, BINDINGS = 3, TAP = 4, ACTOR = 5, AFFECTED = 6, RETURNED = 7, ERROR = 8, TX = 9, OUTCOME = 10;

    /** While a transaction is open handing over early is put off, until so many times the limits are reached. */
    private const PUT_OFF = 4;

    /** Seconds for which a way that failed is not tried again. */
    private const RETRY_SECONDS = 10.0;

    /** False while nothing is to be recorded: switched off, or handing over. */
    public bool $listens;

    public readonly Secrets $secrets;
    public readonly Stats $stats;

    private Container $app;
    private readonly Actors $actors;

    /** @var array<int, array<int, mixed>> */
    private array $entries = [];
    private int $key = 0;
    private int $count = 0;
    private int $bytes = 0;
    private float $oldest = INF;

    /** @var \WeakMap<Tap, true> Those of connections that are still there. */
    private \WeakMap $taps;

    /** The request as a producer of events, and how many it has handed over. */
    private ?string $producer = null;
    private int $seq = 0;
    private int $transactions = 0;

    /** @var array<int, array{int, int}> Time and number of events of open transactions that are on their way already. */
    private array $sent = [];

    /** @var array<string, list<array{int, int}>> What became of such events. */
    private array $outcomes = [];

    /** @var array{lost: int, first_at: int, last_at: int}|null */
    private ?array $gap = null;

    private readonly int $entriesMax;
    private readonly int $bytesMax;
    private readonly int $bindingMax;
    private readonly float $secondsMax;

    /** @var array<string, float> */
    private array $failedAt = [];

    /**
     * @param array<string, mixed> $config as config/auditq.php
     * @param list<Handover> $ways where statements go: the first that takes them
     * @param Closure(): array<string, mixed> $origin says where the statements came from
     */
    public function __construct(
        Container $app,
        private readonly array $config,
        private readonly array $ways,
        private readonly Closure $origin,
        private readonly Closure $log,
        bool $isLong,
    ) {
        $this->app = $app;
        $this->listens = (bool) $config['enabled'];
        $this->secrets = new Secrets($config['redact']);
        $this->stats = new Stats();
        $this->taps = new \WeakMap();
        $this->actors = new Actors($app, $config, $this);
        $this->entriesMax = max(1, (int) $config['buffer']['queries']);
        $this->bytesMax = max(1024, (int) $config['buffer']['bytes']);
        $this->bindingMax = (int) $config['limits']['binding_bytes'];
        $this->secondsMax = $isLong ? (float) $config['buffer']['seconds'] : INF;
    }

    /** Listens to one more connection. */
    public function tap(string $connection, string $system, string $name): Tap
    {
        $tap = new Tap($this, ['connection' => $connection, 'system' => $system, 'name' => $name]);
        $this->taps[$tap] = true;
        return $tap;
    }

    /**
     * Takes one statement, its actor left out; returns its key, or null when it is skipped.
     *
     * @param array<int, mixed> $entry
     */
    public function record(array $entry): ?int
    {
        if (! $this->listens) {
            return null;
        }
        $actor = $this->actors->current();
        if ($actor === null) {
            $this->stats->skipped++;
            return null;
        }
        $entry[self::ACTOR] = $actor;
        $size = 200 + strlen($entry[self::SQL]);
        foreach ($entry[self::BINDINGS] as $name => $value) {
            if (is_string($value)) {
                $size += strlen($value);
                if (strlen($value) > $this->bindingMax) {
                    $entry[self::BINDINGS][$name] = Kept::cut($value);
                }
            } elseif ($value !== null && ! is_int($value) && ! is_float($value) && ! is_bool($value)) {
                $entry[self::BINDINGS][$name] = Kept::of($value, $this->bindingMax);
            }
        }
        $this->entries[++$this->key] = $entry;
        $this->bytes += $size;
        $this->oldest = min($this->oldest, $entry[self::AT]);
        if (++$this->count >= $this->entriesMax || $this->bytes >= $this->bytesMax || $entry[self::AT] - $this->oldest > $this->secondsMax) {
            $this->handOverEarly();
        }
        return $this->key;
    }

    /** Says how many rows a statement gave that the application read one by one. */
    public function returned(?int $key, int $rows): void
    {
        if ($key !== null && isset($this->entries[$key]) && $this->entries[$key][self::ERROR] === null) {
            $this->entries[$key][self::RETURNED] = $rows;
        }
    }

    /** @param list<int> $keys */
    public function resolve(array $keys, string $outcome): void
    {
        foreach ($keys as $key) {
            if (isset($this->entries[$key])) {
                $this->entries[$key][self::OUTCOME] = $outcome;
            } elseif (isset($this->sent[$key])) {
                $this->outcomes[$outcome][] = $this->sent[$key];
                unset($this->sent[$key]);
            }
        }
    }

    /** A name for a transaction that has just begun, unique within the request. */
    public function nextTransaction(): string
    {
        return 't' . ++$this->transactions;
    }

    /** Hands over what there is, and begins anew: the request, job or command is over. */
    public function finish(?Container $app = null): void
    {
        $this->handOver();
        foreach ($this->taps as $tap => $_) {
            $tap->reset();
        }
        $this->producer = null;
        $this->seq = $this->transactions = 0;
        $this->sent = $this->outcomes = [];
        $this->app = $app ?? $this->app;
        $this->actors->reset($this->app);
    }

    /** Hands over what there is. Never throws. */
    public function handOver(): void
    {
        if ($this->entries === [] && $this->outcomes === [] && $this->gap === null) {
            return;
        }
        [$entries, $outcomes, $gap] = [$this->entries, $this->outcomes, $this->gap];
        $this->entries = $this->outcomes = [];
        $this->gap = null;
        $this->count = $this->bytes = 0;
        $this->oldest = INF;
        $listened = $this->listens;
        $this->listens = false;
        try {
            $this->producer ??= bin2hex(random_bytes(16));
            $payload = new Payload($this->config, $this->secrets, $this->producer, ($this->origin)(), $this->actors->all);
            $message = $payload->of($entries, $outcomes, $gap, $this->seq);
            $this->stats->ignored += $payload->ignored;
            if ($message !== null && ! $this->send($message)) {
                throw new Undelivered('no way took them');
            }
            $this->seq = $payload->seq;
            $this->stats->handedOver += $payload->count;
            $this->rememberOpen($entries, $payload->numbers);
        } catch (Throwable $trouble) {
            $this->lose($entries, $gap, $trouble);
        } finally {
            $this->listens = $listened;
        }
    }

    /** Counts something that went wrong, and says the first of it in the log. */
    public function trouble(string $what, Throwable $trouble): void
    {
        if ($this->stats->troubles++ > 0) {
            return;
        }
        try {
            ($this->log)("auditq could not $what: {$trouble->getMessage()} (said once a process; the application goes on)");
        } catch (Throwable) {
            // A log that fails is nothing the application has to hear of from here.
        }
    }

    private function handOverEarly(): void
    {
        $isFull = $this->count >= self::PUT_OFF * $this->entriesMax || $this->bytes >= self::PUT_OFF * $this->bytesMax;
        if (! $isFull) {
            // The queue may be in the database that the transaction has locked.
            foreach ($this->taps as $tap => $_) {
                if ($tap->isOpen()) {
                    return;
                }
            }
        }
        $this->handOver();
    }

    private function send(Message $message): bool
    {
        foreach ($this->ways as $number => $way) {
            if (microtime(true) - ($this->failedAt[$number] ?? 0.0) < self::RETRY_SECONDS) {
                continue;
            }
            try {
                $way->send($message);
                unset($this->failedAt[$number]);
                return true;
            } catch (Throwable $trouble) {
                $this->failedAt[$number] = microtime(true);
                $this->trouble('hand statements over to ' . $way->name(), $trouble);
            }
        }
        return false;
    }

    /** @param array<int, int> $numbers the sequence numbers of entries, by key */
    private function rememberOpen(array $entries, array $numbers): void
    {
        foreach ($numbers as $key => $seq) {
            if ($entries[$key][self::TX] !== null && $entries[$key][self::OUTCOME] === null) {
                $this->sent[$key] = [Payload::micros($entries[$key][self::AT]), $seq];
            }
        }
    }

    private function lose(array $entries, ?array $gap, Throwable $trouble): void
    {
        $this->stats->lost += count($entries);
        $times = array_map(fn (array $entry) => Payload::micros($entry[self::AT]), array_values($entries));
        if ($times !== [] || $gap !== null) {
            $this->gap = [
                'lost' => count($times) + ($gap['lost'] ?? 0),
                'first_at' => min([...array_slice($times, 0, 1), $gap['first_at'] ?? PHP_INT_MAX]),
                'last_at' => max([...array_slice($times, -1), $gap['last_at'] ?? 0]),
            ];
        }
        $this->trouble('keep ' . count($entries) . ' statements', $trouble);
    }
}
