<?php

namespace Auditq\Laravel\Connections;

use Auditq\Laravel\Tap;
use Closure;
use PDOStatement;
use Throwable;

/**
 * Tells a tap of every statement, and of what becomes of transactions; on connections that have none nothing changes.
 *
 * Laravel's own methods do the work: this hooks into those that all of them pass, so that a statement's result, failure
 * and time are those that the application sees.
 */
trait Records
{
    private ?Tap $auditqTap = null;

    /** The statement that ran last, while its count of rows is asked for. */
    private ?PDOStatement $auditqStatement = null;

    /** Lets a tap hear of this connection. */
    public function recordWith(?Tap $tap): static
    {
        $this->auditqTap = $tap;
        return $this;
    }

    /** @inheritDoc */
    protected function runQueryCallback($query, $bindings, Closure $callback)
    {
        $tap = $this->auditqTap;
        if ($tap === null || $this->pretending || ! $tap->recorder->listens) {
            return parent::runQueryCallback($query, $bindings, $callback);
        }
        $at = microtime(true);
        $began = hrtime(true);
        try {
            $result = parent::runQueryCallback($query, $bindings, $callback);
        } catch (Throwable $error) {
            $ns = hrtime(true) - $began;
            $this->auditqStatement = null;
            $tap->failed($query, $bindings, $at, $ns, $error, $this->transactions);
            throw $error;
        }
        $ns = hrtime(true) - $began;
        $statement = $this->auditqStatement;
        $this->auditqStatement = null;
        $tap->ran($query, $bindings, $at, $ns, $result, $statement, $this->transactions);
        return $result;
    }

    /** @inheritDoc */
    public function bindValues($statement, $bindings)
    {
        if ($this->auditqTap?->recorder->listens && ! $this->pretending && $statement instanceof PDOStatement) {
            $this->auditqStatement = $statement;
        }
        parent::bindValues($statement, $bindings);
    }

    /** @inheritDoc */
    public function cursor($query, $bindings = [], $useReadPdo = true, ...$more)
    {
        $records = parent::cursor($query, $bindings, $useReadPdo, ...$more);
        $tap = $this->auditqTap;
        if ($tap === null) {
            yield from $records;
            return;
        }
        $entry = null;
        $rows = 0;
        $tap->last = null;
        try {
            foreach ($records as $record) {
                if ($rows++ === 0) {
                    $entry = $tap->last;
                }
                yield $record;
            }
        } finally {
            $tap->recorder->returned($rows === 0 ? $tap->last : $entry, $rows);
        }
    }

    /** @inheritDoc */
    protected function fireConnectionEvent($event)
    {
        $this->auditqTap?->transaction($event, $this->transactions);
        return parent::fireConnectionEvent($event);
    }
}
