<?php

namespace Auditq\Laravel;

/** A statement's text without its secrets, and which of its bindings are secrets. */
final class Secret
{
    /**
     * @param array<int, true> $places of secret bindings, from 0
     * @param array<string, true> $names of secret bindings that have names
     * @param list<string> $literals the secrets that stood in the text
     * @param bool $all true when every binding counts as a secret
     */
    public function __construct(
        public readonly string $sql,
        public readonly array $places = [],
        public readonly array $names = [],
        public readonly array $literals = [],
        public readonly bool $all = false,
    ) {
    }

    /** Whether a binding is a secret, by its place and its name. */
    public function hides(int $index, int|string $name): bool
    {
        return $this->all || isset($this->places[$index]) || (is_string($name) && isset($this->names[ltrim($name, ':')]));
    }

    /** Where a named binding first stands in the statement: the order in which auditq counts them. */
    public function placeOf(int|string $name): int
    {
        $found = preg_match('/:' . preg_quote(ltrim((string) $name, ':'), '/') . '\b/', $this->sql, $at, PREG_OFFSET_CAPTURE);
        return $found === 1 ? $at[0][1] : PHP_INT_MAX;
    }
}
