<?php

namespace Auditq\Laravel;

/**
 * Finds the places in one statement where secrets stand.
 *
 * The text is divided into segments: what stands between commas, logical operators, clause keywords and parentheses. A
 * segment with the name of a secret in it is secret: `password = ?`, `? = lower(password)`, `SET password = crypt(?, …)`
 * are one case. Secrecy goes up from the arguments of a function to the segment around it, and down from a segment
 * into what it encloses, but not into or out of subqueries. The same in auditq-event/src/places.rs, which this follows.
 */
final class SecretPlaces
{
    private const CLAUSES = [
        'conflict', 'cross', 'delete', 'do', 'duplicate', 'else', 'end', 'except', 'fetch', 'from', 'group', 'having',
        'inner', 'insert', 'intersect', 'into', 'join', 'left', 'limit', 'natural', 'offset', 'on', 'order', 'qualify',
        'replace', 'returning', 'right', 'select', 'set', 'then', 'union', 'update', 'using', 'value', 'values', 'when',
        'where', 'window', 'with',
    ];

    /** @var list<string> Every token with the blanks and comments between. */
    private array $tokens;

    /** @var list<int> Where the tokens are that count. */
    private array $real = [];

    /** @var list<array{parent: int, group: int, inherits: bool, raises: bool, secret: bool}> */
    private array $segments = [];

    /** @var list<array{logical: bool, secret: bool}> */
    private array $groups = [];

    /** @var list<array<string, mixed>> */
    private array $frames = [];

    /** @var array<int, int> The segment of each token that counts. */
    private array $segmentOf = [];

    private bool $all = false;

    public function __construct(private readonly Secrets $secrets, private readonly string $sql, private readonly string $system)
    {
    }

    /** Reads the statement. One that cannot be read is a secret as a whole. */
    public function find(): Secret
    {
        if (preg_match_all($this->grammar(), $this->sql, $found) === false) {
            return new Secret("-- [redacted: a statement that could not be read]", all: true);
        }
        $this->tokens = $found[0];
        foreach ($this->tokens as $at => $token) {
            if (! ctype_space($token[0]) && ! str_starts_with($token, '--') && ! str_starts_with($token, '/*') && ! ($token[0] === '#' && $this->isMysql())) {
                $this->real[] = $at;
            }
        }
        $this->open('statement', false, false);
        foreach (array_keys($this->real) as $index) {
            $this->step($index);
        }
        while ($this->frames !== []) {
            $this->endPositions();
            array_pop($this->frames);
        }
        $this->spread();
        return $this->secret();
    }

    private function grammar(): string
    {
        $quoted = "`[^`]*+(?:``[^`]*+)*+(?:`|$)|\"[^\"]*+(?:\"\"[^\"]*+)*+(?:\"|$)";
        $text = "'[^']*+(?:''[^']*+)*+(?:'|$)";
        $escaped = "'[^'\\\\]*+(?:(?:\\\\.|'')[^'\\\\]*+)*+(?:'|\\\\?$)";
        $own = match ($this->system) {
            'mysql', 'mariadb' => "$escaped|\"[^\"\\\\]*+(?:(?:\\\\.|\"\")[^\"\\\\]*+)*+(?:\"|\\\\?$)|#[^\\n]*+|$quoted",
            'pgsql' => "[eE]$escaped|$text|\\$([A-Za-z_]\\w*+)\\$.*?(?:\\$\\g{-1}\\$|$)|\\$\\$.*?(?:\\$\\$|$)|$quoted",
            default => "$text|$quoted|\\[[A-Za-z_][^\\]]*+\\]",
        };
        return "~\\s++|--[^\\n]*+|/\\*.*?(?:\\*/|$)|$own|\\?\\?|\\?|::|:[A-Za-z_]\\w*+|\\$\\d++|[0-9][\\w.]*+|[A-Za-z_@\\x80-\\xFF][\\w\\x80-\\xFF\$]*+|.~s";
    }

    private function isMysql(): bool
    {
        return $this->system === 'mysql' || $this->system === 'mariadb';
    }

    private function token(int $index): string
    {
        return isset($this->real[$index]) ? $this->tokens[$this->real[$index]] : '';
    }

    private function word(int $index): string
    {
        return strtolower($this->token($index));
    }

    private function step(int $index): void
    {
        $token = $this->token($index);
        $outer = $this->top('segment');
        match (true) {
            $token === '(' || $token === '[' => $this->openParenthesis($index),
            $token === ')' || $token === ']' => $this->closeParenthesis(),
            $token === ',' => $this->nextItem(),
            $token === ';' => $this->nextSegment(),
            $this->isQuotedName($token) => $this->name($index),
            self::isWord($token) => $this->readWord($index),
            default => null,
        };
        $this->segmentOf[$index] = $token === '(' || $token === '[' ? $outer : $this->top('segment');
    }

    private static function isWord(string $token): bool
    {
        return $token !== '' && (ctype_alpha($token[0]) || $token[0] === '_' || $token[0] === '@' || ord($token[0]) >= 0x80) && ! str_ends_with($token, "'");
    }

    private function isQuotedName(string $token): bool
    {
        return $token[0] === '`' || ($token[0] === '"' && ! $this->isMysql()) || ($token[0] === '[' && strlen($token) > 1);
    }

    private function top(string $field): mixed
    {
        return $this->frames[count($this->frames) - 1][$field];
    }

    private function set(string $field, mixed $value): void
    {
        $this->frames[count($this->frames) - 1][$field] = $value;
    }

    private function add(int $parent, int $group, bool $inherits, bool $raises): int
    {
        $this->segments[] = ['parent' => $parent, 'group' => $group, 'inherits' => $inherits, 'raises' => $raises, 'secret' => false];
        return count($this->segments) - 1;
    }

    private function open(string $enclosure, bool $inherits, bool $raises): void
    {
        $parent = $this->frames === [] ? 0 : $this->top('segment');
        $this->groups[] = ['logical' => false, 'secret' => false];
        $group = count($this->groups) - 1;
        $segment = $this->add($parent, $group, $inherits, $raises);
        $this->frames[] = [
            'enclosure' => $enclosure, 'group' => $group, 'head' => $segment, 'segment' => $segment, 'betweens' => 0,
            'columns' => null, 'awaits' => false, 'rows' => false, 'position' => null,
        ];
    }

    private function nextSegment(): void
    {
        $current = $this->segments[$this->top('segment')];
        $this->set('segment', $this->add($current['parent'], $current['group'], $current['inherits'], $current['raises']));
        $this->set('betweens', 0);
    }

    private function mark(): void
    {
        $this->segments[$this->top('segment')]['secret'] = true;
    }

    private function openParenthesis(int $index): void
    {
        [$awaits, $rows, $columns] = [$this->top('awaits'), $this->top('rows'), $this->top('columns')];
        if (in_array($this->word($index + 1), ['select', 'with', 'insert', 'update', 'delete', 'merge'], true)) {
            $this->open('query', in_array($this->word($index - 1), ['as', 'materialized'], true), false);
            if ($awaits) {
                $this->set('columns', $columns);
            }
            return;
        }
        if ($awaits && $columns === null) {
            $this->set('columns', $this->columnList($index + 1));
        }
        $row = $rows && $columns !== null;
        $this->open('list', true, ! $row);
        $this->groups[$this->top('group')]['logical'] = in_array($this->word(0), ['create', 'alter'], true);
        if ($row) {
            $this->set('columns', $columns);
            $this->set('position', 0);
            $this->markPosition();
        }
    }

    /** @return list<bool> which columns of `(a, b, …)` are secret */
    private function columnList(int $index): array
    {
        $columns = [false];
        for (; isset($this->real[$index]) && ! in_array($this->token($index), [')', '('], true); $index++) {
            if ($this->token($index) === ',') {
                $columns[] = false;
            } elseif ($this->secrets->matches($this->token($index))) {
                $columns[count($columns) - 1] = true;
            }
        }
        return $columns;
    }

    private function closeParenthesis(): void
    {
        for ($depth = count($this->frames) - 1; $depth > 0; $depth--) {
            if (in_array($this->frames[$depth]['enclosure'], ['list', 'query'], true)) {
                while (count($this->frames) > $depth) {
                    $this->endPositions();
                    array_pop($this->frames);
                }
                return;
            }
        }
        $this->nextSegment();
    }

    private function nextItem(): void
    {
        $this->nextSegment();
        if ($this->top('position') !== null) {
            $this->set('position', $this->top('position') + 1);
            $this->markPosition();
        }
    }

    /** Marks the segment when it is the value of a secret column. */
    private function markPosition(): void
    {
        if ($this->top('columns')[$this->top('position')] ?? false) {
            $this->mark();
        }
    }

    /** Ends a row or a select list. If it is not as wide as the column list, nobody knows which value is the secret. */
    private function endPositions(): void
    {
        [$position, $columns] = [$this->top('position'), $this->top('columns')];
        $this->set('position', null);
        if ($position === null || $columns === null || $position + 1 === count($columns) || ! in_array(true, $columns, true)) {
            return;
        }
        if ($this->top('enclosure') === 'list') {
            $this->groups[$this->top('group')]['secret'] = true;
        } else {
            $this->all = true;
        }
    }

    private function readWord(int $index): void
    {
        $word = $this->word($index);
        if ($word === 'case') {
            $this->open('case', false, false);
        } elseif ($this->top('enclosure') === 'case' && in_array($word, ['when', 'then', 'else', 'end'], true)) {
            $this->caseWord($word);
        } elseif ($word === 'between') {
            $this->set('betweens', $this->top('betweens') + 1);
        } elseif ($word === 'and' && $this->top('betweens') > 0) {
            $this->set('betweens', $this->top('betweens') - 1);
        } elseif (in_array($word, ['and', 'or', 'xor'], true)) {
            if ($this->top('enclosure') === 'list') {
                $this->groups[$this->top('group')]['logical'] = true;
            }
            $this->nextSegment();
        } elseif ($word === 'identified') {
            $this->nextSegment();
            $this->mark();
        } elseif (in_array($word, ['key', 'rekey', 'hexkey', 'textkey'], true) && $this->word($index - 1) === 'pragma') {
            $this->mark();
        } elseif ($this->beginsClause($index, $word)) {
            $this->clause($word);
        } else {
            $this->name($index);
        }
    }

    private function beginsClause(int $index, string $word): bool
    {
        if (! in_array($word, self::CLAUSES, true)) {
            return false;
        }
        $calls = $this->token($index + 1) === '(';
        return match ($word) {
            'from' => $this->word($index - 1) !== 'distinct',
            'left', 'right', 'replace' => ! $calls,
            'insert' => ! $calls || $this->word($index - 1) === 'then',
            'values' => $this->token($index - 1) !== '=',
            'value' => $this->top('awaits') && $this->top('columns') !== null,
            default => true,
        };
    }

    private function clause(string $word): void
    {
        $this->endPositions();
        $this->nextSegment();
        $awaited = $this->top('columns');
        $this->set('awaits', false);
        $this->set('rows', false);
        switch ($word) {
            case 'insert':
            case 'replace':
                $this->set('columns', null);
                $this->set('awaits', true);
                break;
            case 'into':
                $this->set('awaits', $awaited === null);
                break;
            case 'values':
            case 'value':
                $this->set('rows', true);
                break;
            case 'select':
                if ($awaited !== null) {
                    $this->set('position', 0);
                    $this->markPosition();
                }
                break;
            case 'set':
            case 'returning':
            case 'conflict':
            case 'duplicate':
            case 'update':
                $this->set('columns', null);
                break;
        }
        if ($this->top('enclosure') === 'query') {
            $at = $this->top('segment');
            $this->segments[$at]['raises'] = $word === 'select' && ! $this->segments[$at]['inherits'];
        }
    }

    private function caseWord(string $word): void
    {
        if ($word === 'end') {
            array_pop($this->frames);
            return;
        }
        $head = $this->top('head');
        $result = $word !== 'when';
        $parent = $result ? $this->segments[$head]['parent'] : $head;
        $this->set('segment', $this->add($parent, $this->top('group'), true, $result));
        $this->set('betweens', 0);
    }

    /** Marks the segment when a name in it is a secret's; a name before a dot is a table's. */
    private function name(int $index): void
    {
        if ($this->token($index + 1) !== '.' && $this->secrets->matches($this->token($index))) {
            $this->mark();
        }
    }

    private function spread(): void
    {
        for ($at = count($this->segments) - 1; $at > 0; $at--) {
            $segment = $this->segments[$at];
            if ($segment['secret'] && $segment['raises'] && ! $this->groups[$segment['group']]['logical']) {
                $this->segments[$segment['parent']]['secret'] = true;
            }
        }
        foreach ($this->segments as $at => $segment) {
            $around = $segment['inherits'] && $this->segments[$segment['parent']]['secret'];
            if ($around || $this->groups[$segment['group']]['secret']) {
                $this->segments[$at]['secret'] = true;
            }
        }
    }

    private function isSecret(int $index): bool
    {
        return $this->all || $this->segments[$this->segmentOf[$index]]['secret'];
    }

    private function secret(): Secret
    {
        [$places, $names, $literals, $byName, $last] = [[], [], [], [], 0];
        foreach ($this->real as $index => $at) {
            $token = $this->tokens[$at];
            if ($token === '?' || ($token[0] === ':' && strlen($token) > 1 && $token !== '::') || preg_match('/^\$\d+$/', $token)) {
                $place = match ($token[0]) {
                    '?' => $last + 1,
                    '$' => (int) substr($token, 1),
                    default => $byName[$token] ??= $last + 1,
                };
                $last = max($last, $place);
                if ($this->isSecret($index) || $this->secrets->matches($token)) {
                    $places[$place - 1] = true;
                    $names[substr($token, 1)] = true;
                }
            } elseif ($this->isSecret($index) && $this->isLiteral($token)) {
                $literals[] = self::valueOf($token);
                $this->tokens[$at] = $this->secrets->mark(self::valueOf($token));
            }
        }
        unset($names['']);
        return new Secret(implode('', $this->tokens), $places, $names, $literals, $this->all);
    }

    private function isLiteral(string $token): bool
    {
        return ctype_digit($token[0]) || str_ends_with($token, "'") || $token[0] === "'"
            || ($token[0] === '"' && $this->isMysql()) || ($token[0] === '$' && strlen($token) > 1);
    }

    /** A literal without its quotes. */
    private static function valueOf(string $token): string
    {
        if (ctype_digit($token[0])) {
            return $token;
        }
        $inner = preg_replace('/^(?:[eE]?[\'"]|\$\w*\$)|(?:[\'"]|\$\w*\$)$/', '', $token) ?? '';
        return str_replace(["''", '""', "\\'", '\\\\'], ["'", '"', "'", '\\'], $inner);
    }
}
