<?php

namespace Auditq\Laravel;

/**
 * Finds the secrets of a statement by the names that stand around them, as auditq's worker does once more.
 *
 * When in doubt, something is a secret. What was found out of a text is kept, for the next time it is asked.
 */
final class Secrets
{
    /** As in auditq-event. */
    public const NAMES = [
        'password', 'passwd', 'pwd', 'passphrase', 'passcode', 'secret', 'token', 'api_key', 'apikey', 'access_key',
        'accesskey', 'private_key', 'privatekey', 'signing_key', 'encryption_key', 'authorization', 'credential',
        'credentials', 'cvv', 'cvv2', 'cvc', 'pin', 'otp', 'totp', 'ssn', 'card_number', 'cardnumber', 'credit_card',
        'creditcard',
    ];

    private const KNOWN_MAX = 500;
    private const KNOWN_BYTES_MAX = 8192;
    private const MARK = '[redacted]';
    private const PREFIX_BYTES = 32;

    /** The key of the hashes that stand for secrets; null when equal secrets need not be told to be equal. */
    public readonly ?string $key;

    /** @var list<string> Each name as its words, with a space around them. */
    private readonly array $patterns;

    /** Finds what may be one of the names, quickly. */
    private readonly string $glance;

    /** @var array<string, Secret> */
    private array $known = [];

    /** @param array{names: list<string>, except: list<string>, key: ?string} $config */
    public function __construct(array $config)
    {
        $key = (string) ($config['key'] ?? '');
        $this->key = preg_match('/^[0-9a-f]{64}$/i', $key) ? hex2bin($key) : null;
        $names = array_diff([...self::NAMES, ...($config['names'] ?? [])], $config['except'] ?? []);
        $words = array_filter(array_map(self::words(...), $names));
        $this->patterns = array_values(array_map(fn (array $words) => ' ' . implode(' ', $words) . ' ', $words));
        $glances = array_map(fn (array $words) => implode('[^a-z]{0,8}', array_map(fn (string $word) => preg_quote($word, '~'), $words)), $words);
        $this->glance = '~identified|pragma|' . implode('|', $glances ?: ['(?!)']) . '~i';
    }

    /** What is secret in a statement. */
    public function of(string $sql, string $system): Secret
    {
        $isKept = strlen($sql) <= self::KNOWN_BYTES_MAX;
        $known = $system . $sql;
        if ($isKept && isset($this->known[$known])) {
            return $this->known[$known];
        }
        $secret = ! $this->mayHold($sql) ? new Secret($sql) : (new SecretPlaces($this, $sql, $system))->find();
        if ($isKept) {
            if (count($this->known) >= self::KNOWN_MAX) {
                $this->known = [];
            }
            $this->known[$known] = $secret;
        }
        return $secret;
    }

    /** False when no name of a secret is in the text, found out quickly. */
    public function mayHold(string $sql): bool
    {
        return preg_match($this->glance, $sql) !== 0;
    }

    /** Whether a column or parameter of this name holds secrets. */
    public function matches(string $name): bool
    {
        $words = ' ' . implode(' ', self::words($name)) . ' ';
        foreach ($this->patterns as $pattern) {
            if (str_contains($words, $pattern)) {
                return true;
            }
        }
        return false;
    }

    /** @return array<string, string> what stands in a message for a secret */
    public function hidden(mixed $value): array
    {
        if ($value instanceof Kept) {
            return ['secret' => $value->kind()] + ($value->isCut() ? [] : $this->hmac($value->raw));
        }
        $kind = match (true) {
            is_bool($value) => 'bool',
            is_int($value) => 'int',
            is_float($value) => 'float',
            default => mb_check_encoding($value, 'UTF-8') ? 'text' : 'bytes',
        };
        return ['secret' => $kind] + $this->hmac(is_bool($value) ? ($value ? 'true' : 'false') : (string) $value);
    }

    /** What stands in a statement's text for a literal. */
    public function mark(string $literal): string
    {
        $hmac = $this->hmac($literal);
        return $hmac === [] ? "'" . self::MARK . "'" : "'[redacted:{$hmac['hmac']}]'";
    }

    /**
     * Takes out of a database's message what it quotes of the statement's secrets, also when it has shortened them.
     *
     * @param array<int|string, mixed> $bindings
     */
    public function redactError(string $message, Secret $secret, array $bindings): string
    {
        $values = $secret->literals;
        $index = 0;
        foreach ($bindings as $name => $value) {
            // In a statement with names the order is another one: then each counts that may be a secret.
            if ($secret->hides($index++, $name) || (is_string($name) && $secret->places !== [])) {
                $values[] = $value instanceof Kept ? $value->raw : (is_bool($value) ? '' : (string) $value);
            }
        }
        foreach ($values as $value) {
            $message = self::takeOut($message, $value);
        }
        return $message;
    }

    private static function takeOut(string $message, string $value): string
    {
        $prefix = mb_strcut(mb_scrub($value, 'UTF-8'), 0, self::PREFIX_BYTES, 'UTF-8');
        if ($prefix === '' || ! str_contains($message, $prefix)) {
            return $message;
        }
        if (mb_strlen($value, 'UTF-8') < 4) {
            return preg_replace('/(?<![\p{L}\p{N}])' . preg_quote($prefix, '/') . '(?![\p{L}\p{N}])/u', self::MARK, $message) ?? self::MARK;
        }
        $out = '';
        while (($at = strpos($message, $prefix)) !== false) {
            $same = strspn(substr($message, $at) ^ $value, "\0");
            $out .= substr($message, 0, $at) . self::MARK;
            $message = substr($message, $at + max($same, strlen($prefix)));
        }
        return mb_scrub($out . $message, 'UTF-8');
    }

    /** @return array{}|array{hmac: string} the same as auditq writes, where the key is the same */
    private function hmac(string $value): array
    {
        return $this->key === null ? [] : ['hmac' => substr(hash_hmac('sha256', "auditq value v1\0" . $value, $this->key), 0, 32)];
    }

    /** @return list<string> the words of a name: divided at punctuation, digits, and where camel case begins a word */
    private static function words(string $name): array
    {
        preg_match_all('/[A-Z]+(?![a-z\x80-\xFF])|[A-Z]?[a-z\x80-\xFF]+|[0-9]+/', $name, $found);
        return array_map(strtolower(...), $found[0]);
    }
}
