<?php

namespace Auditq\Laravel;

use BackedEnum;
use DateTimeInterface;
use Stringable;
use UnitEnum;

/** What is kept of a binding that JSON cannot say, or that is over its limit: taken when the statement ran. */
final class Kept
{
    private const HEAD_BYTES = 64;

    /** @param array<string, mixed> $json as it stands in the message */
    private function __construct(public readonly array $json, public readonly string $raw = '')
    {
    }

    /** The head, the length and the hash of a text or of binary data. */
    public static function cut(string $value): self
    {
        $text = mb_check_encoding($value, 'UTF-8');
        $head = $text ? ['head' => mb_strcut($value, 0, self::HEAD_BYTES, 'UTF-8')] : ['head64' => base64_encode(substr($value, 0, self::HEAD_BYTES))];
        return new self(['cut' => $text ? 'text' : 'bytes', 'len' => strlen($value), 'sha256' => hash('sha256', $value)] + $head, substr($value, 0, 4096));
    }

    /** A value that is neither null nor scalar, or null when it is better taken as the scalar that it stands for. */
    public static function of(mixed $value, int $limit): mixed
    {
        if ($value instanceof self) {
            return $value;
        }
        if ($value instanceof DateTimeInterface) {
            return self::typed('datetime', $value->format('Y-m-d\TH:i:s.uP'));
        }
        if ($value instanceof BackedEnum) {
            return $value->value;
        }
        if ($value instanceof UnitEnum) {
            return self::typed('enum', $value::class . '::' . $value->name);
        }
        if ($value instanceof Stringable) {
            $text = (string) $value;
            return strlen($text) > $limit ? self::cut($text) : $text;
        }
        if (is_array($value)) {
            $json = (string) json_encode($value, JSON_PARTIAL_OUTPUT_ON_ERROR | JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_UNICODE, 32);
            return strlen($json) > $limit ? self::cut($json) : self::typed('array', $json);
        }
        return self::typed(is_object($value) ? $value::class : get_debug_type($value), '');
    }

    /** Binary data within its limit. */
    public static function bytes(string $value): self
    {
        return new self(['base64' => base64_encode($value)], $value);
    }

    /** A number that JSON has no way to write. */
    public static function float(float $value): self
    {
        $text = is_nan($value) ? 'NAN' : ($value > 0 ? 'INF' : '-INF');
        return new self(['float' => $text], $text);
    }

    private static function typed(string $type, string $text): self
    {
        return new self(['type' => str_replace("\0", '', $type), 'text' => $text], $text);
    }

    /** The kind that a secret is said to be of. */
    public function kind(): string
    {
        return $this->json['cut'] ?? $this->json['type'] ?? (isset($this->json['float']) ? 'float' : 'bytes');
    }

    /** True when not all of the value is here. */
    public function isCut(): bool
    {
        return isset($this->json['cut']);
    }
}
