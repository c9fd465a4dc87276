<?php

namespace Auditq\Laravel;

use PDOException;
use PDOStatement;
use Throwable;

/**
 * What one connection tells the recorder, and what is known of its transaction.
 *
 * Nothing that goes wrong in here reaches the application.
 */
final class Tap
{
    /** More statements of one transaction are recorded without their outcome: it would take memory without end. */
    private const KEYS_MAX = 20_000;

    /** The entry of the statement that ran last; null when it was skipped. */
    public ?int $last = null;

    /** @var list<list<int>> For each open level of the transaction the entries of its statements. */
    private array $frames = [];

    /** @var list<int> Entries of a transaction that is over on the connection and of which nothing was said yet. */
    private array $limbo = [];

    private int $keys = 0;
    private ?string $transaction = null;

    /** True while a transaction is open that the application began in SQL of its own. */
    private bool $raw = false;

    /** @param array{connection: string, system: string, name: string} $database */
    public function __construct(public readonly Recorder $recorder, public readonly array $database)
    {
    }

    /** A statement ran to its end. */
    public function ran(string $sql, array $bindings, float $at, int $ns, mixed $result, ?PDOStatement $statement, int $level): void
    {
        try {
            $affected = $returned = null;
            if (is_array($result)) {
                $returned = count($result);
                if ($statement !== null && self::writes($sql)) {
                    $affected = $statement->rowCount();
                }
            } elseif (is_int($result)) {
                $affected = $result;
            } elseif (is_bool($result) && $statement !== null && self::writes($sql)) {
                $affected = $statement->rowCount();
            }
            $this->record($sql, $bindings, $at, $ns, $affected, $returned, null, $level);
            if (is_bool($result)) {
                $this->sayOfRaw($sql);
            }
        } catch (Throwable $trouble) {
            $this->recorder->trouble('record a statement', $trouble);
        }
    }

    /** A statement failed. */
    public function failed(string $sql, array $bindings, float $at, int $ns, Throwable $error, int $level): void
    {
        try {
            $this->record($sql, $bindings, $at, $ns, null, null, $this->what($error), $level);
        } catch (Throwable $trouble) {
            $this->recorder->trouble('record a failed statement', $trouble);
        }
    }

    /** A statement that only `DB::listen` told of. */
    public function heard(string $sql, array $bindings, float $at, int $ns, int $level): void
    {
        try {
            $this->record($sql, $bindings, $at, $ns, null, null, null, $level, false);
        } catch (Throwable $trouble) {
            $this->recorder->trouble('record a statement', $trouble);
        }
    }

    /** One of Laravel's events of a transaction; `$level` is how many are open after it. */
    public function transaction(string $event, int $level): void
    {
        try {
            match ($event) {
                'beganTransaction' => $this->began($level),
                'committed' => $this->committed($level),
                'rollingBack' => $this->rolledBack($level),
                default => null,
            };
        } catch (Throwable $trouble) {
            $this->recorder->trouble('follow a transaction', $trouble);
        }
    }

    /** True while a transaction is open. */
    public function isOpen(): bool
    {
        return $this->frames !== [];
    }

    /** Forgets the transaction: the request is over. */
    public function reset(): void
    {
        $this->frames = $this->limbo = [];
        $this->transaction = null;
        $this->raw = false;
        $this->last = null;
    }

    private function record(
        string $sql,
        array $bindings,
        float $at,
        int $ns,
        ?int $affected,
        ?int $returned,
        ?array $error,
        int $level,
        bool $knowsOutcome = true,
    ): void {
        if (($level > 0 || $this->frames !== []) && ! $this->raw) {
            $this->reconcile($level);
        }
        $open = $this->frames !== [];
        $outcome = $open || ! $knowsOutcome ? null : 'autocommit';
        $this->last = $this->recorder->record(
            [$at, intdiv($ns, 1000), $sql, $bindings, $this, 0, $affected, $returned, $error, $open ? $this->transaction : null, $outcome],
        );
        if ($open && $this->last !== null && ++$this->keys <= self::KEYS_MAX) {
            $this->frames[count($this->frames) - 1][] = $this->last;
        }
    }

    private function began(int $level): void
    {
        $this->giveUpLimbo();
        $this->raw = false;
        if ($level <= 1 && $this->frames !== []) {
            $this->close('unknown');
        }
        $this->reconcile($level);
    }

    private function committed(int $level): void
    {
        if ($level > 0) {
            $this->reconcile($level);
            return;
        }
        $this->limbo = array_merge($this->limbo, ...$this->frames);
        $this->frames = [];
        $this->close('committed');
    }

    private function rolledBack(int $level): void
    {
        $undone = array_splice($this->frames, $level);
        $keys = array_merge($level === 0 ? $this->limbo : [], ...$undone);
        $this->recorder->resolve($keys, 'rolled back');
        if ($level === 0) {
            $this->limbo = [];
            $this->close('rolled back');
        }
    }

    /** Ends the transaction. */
    private function close(string $outcome): void
    {
        $keys = array_merge($this->limbo, ...$this->frames);
        $this->frames = $this->limbo = [];
        $this->transaction = null;
        $this->raw = false;
        $this->keys = 0;
        if ($outcome !== 'unknown') {
            $this->recorder->resolve($keys, $outcome);
        }
    }

    /**
     * Takes the connection's word for how many levels are open.
     *
     * What a level held belongs to the one around it, once it is gone without a word. Where none is open any more, the
     * outcome is not known yet: Laravel says that a transaction was committed only after it has run what waited for that.
     */
    private function reconcile(int $level): void
    {
        while (count($this->frames) > max($level, 1)) {
            $keys = array_pop($this->frames);
            $last = count($this->frames) - 1;
            $this->frames[$last] = array_merge($this->frames[$last], $keys);
        }
        if ($level === 0) {
            $this->limbo = array_merge($this->limbo, ...$this->frames);
            $this->frames = [];
            return;
        }
        if ($this->frames === []) {
            $this->giveUpLimbo();
            $this->transaction = $this->recorder->nextTransaction();
            $this->keys = 0;
        }
        while (count($this->frames) < $level) {
            $this->frames[] = [];
        }
    }

    /** Nobody will say any more what became of it: the connection was lost, most likely. */
    private function giveUpLimbo(): void
    {
        $this->limbo = [];
    }

    /** Follows transactions that the application begins and ends in SQL. */
    private function sayOfRaw(string $sql): void
    {
        if (! preg_match('/^\s*(begin|start\s+transaction|commit|end|rollback)\b(?!\s+to\b)/i', $sql, $found)) {
            return;
        }
        $verb = strtolower($found[1]);
        if ($verb[0] === 'b' || $verb[0] === 's') {
            if ($this->frames === []) {
                $this->raw = true;
                $this->frames = [[]];
                $this->transaction = $this->recorder->nextTransaction();
            }
        } elseif ($this->raw) {
            $this->close($verb === 'rollback' ? 'rolled back' : 'committed');
        }
    }

    private static function writes(string $sql): bool
    {
        return (bool) preg_match('/^\s*(?:insert|update|delete|replace|merge|with)\b/i', $sql);
    }

    /** @return array{string, string} the database's own code and message, without the SQL that Laravel adds */
    private function what(Throwable $error): array
    {
        $cause = $error;
        while ($cause->getPrevious() !== null && ! $cause instanceof PDOException) {
            $cause = $cause->getPrevious();
        }
        // Laravel's own exception is one of PDO's too, and carries the statement.
        $inner = $cause->getPrevious();
        $cause = $inner instanceof PDOException ? $inner : $cause;
        $info = $cause instanceof PDOException && is_array($cause->errorInfo) ? $cause->errorInfo : [];
        $state = (string) ($info[0] ?? $cause->getCode());
        $own = $this->database['system'] === 'pgsql' ? $state : (string) ($info[1] ?? $state);
        return [$own !== '' ? $own : $state, (string) ($info[2] ?? $cause->getMessage())];
    }
}
