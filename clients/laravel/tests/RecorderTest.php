<?php

use Auditq\Laravel\Handover\Handover;
use Auditq\Laravel\Message;
use Auditq\Laravel\Recorder;
use Auditq\Laravel\Tap;
use Illuminate\Container\Container;

/** Keeps what it is given, or refuses it. */
final class Kettle implements Handover
{
    /** @var list<array<string, mixed>> */
    public array $batches = [];
    public bool $refuses = false;

    public function send(Message $message): void
    {
        if ($this->refuses) {
            throw new RuntimeException('refused');
        }
        $this->batches[] = json_decode(json_decode($message->payload, true)['data']['batch'], true);
    }

    public function name(): string
    {
        return 'the kettle';
    }

    public function items(): array
    {
        return array_merge(...array_column($this->batches, 'items'));
    }
}

$make = function (array $config = []): array {
    $shipped = require __DIR__ . '/../config/auditq.php';
    $config = array_replace_recursive($shipped, ['app' => 'shop', 'actor' => fn () => 'alice', 'duplicates' => 'off'], $config);
    $kettle = new Kettle();
    $log = new ArrayObject();
    $recorder = new Recorder(new Container(), $config, [$kettle], fn () => ['kind' => 'cli'], fn (string $line) => $log->append($line), false);
    return [$recorder, $recorder->tap('app', 'mysql', 'shop'), $kettle, $log];
};
$run = fn (Tap $tap, string $sql, int $level = 0, mixed $result = 1) => $tap->ran($sql, [], microtime(true), 1000, $result, null, $level);
$outcomes = fn (Kettle $kettle) => array_map(fn (array $item) => $item['outcome'] ?? 'unknown', array_filter($kettle->items(), fn (array $item) => isset($item['statement'])));

return ! class_exists(Container::class) ? [] : [
    'a connection that was lost in a transaction leaves its outcome unknown' => function () use ($make, $run, $outcomes) {
        [$recorder, $tap, $kettle] = $make();
        $tap->transaction('beganTransaction', 1);
        $run($tap, 'update a', 1);
        $run($tap, 'update b', 0);
        $tap->transaction('beganTransaction', 1);
        $run($tap, 'update c', 1);
        $tap->transaction('committed', 0);
        $recorder->finish();
        same(['unknown', 'autocommit', 'committed'], $outcomes($kettle));
        same(['t1', null, 't2'], array_map(fn ($item) => $item['tx'] ?? null, $kettle->items()));
    },
    'what runs after the commit and before Laravel says so does not belong to the transaction' => function () use ($make, $run, $outcomes) {
        [$recorder, $tap, $kettle] = $make();
        $tap->transaction('beganTransaction', 1);
        $run($tap, 'update a', 1);
        $run($tap, 'select after commit', 0, []);
        $tap->transaction('committed', 0);
        $recorder->finish();
        same(['committed', 'autocommit'], $outcomes($kettle));
    },
    'a savepoint that is gone without a word shares the fate of what is around it' => function () use ($make, $run, $outcomes) {
        [$recorder, $tap, $kettle] = $make();
        $tap->transaction('beganTransaction', 1);
        $tap->transaction('beganTransaction', 2);
        $run($tap, 'update a', 2);
        $run($tap, 'update b', 1);
        $tap->transaction('rollingBack', 0);
        $recorder->finish();
        same(['rolled back', 'rolled back'], $outcomes($kettle));
    },
    'a transaction begun in SQL is followed' => function () use ($make, $run, $outcomes) {
        [$recorder, $tap, $kettle] = $make();
        foreach (['begin', 'update a', 'rollback to savepoint x', 'COMMIT', 'start transaction', 'update b', 'ROLLBACK', 'update c'] as $sql) {
            $run($tap, $sql, 0, true);
        }
        $recorder->finish();
        same(['autocommit', 'committed', 'committed', 'committed', 'autocommit', 'rolled back', 'rolled back', 'autocommit'], $outcomes($kettle));
    },
    'what nobody took is a gap in the next message, and said once' => function () use ($make, $run) {
        [$recorder, $tap, $kettle, $log] = $make();
        $kettle->refuses = true;
        $run($tap, 'update a');
        $run($tap, 'update b');
        $recorder->handOver();
        $run($tap, 'update c');
        $recorder->handOver();
        same([3, 0, 1], [$recorder->stats->lost, count($kettle->batches), count($log)]);
        $kettle->refuses = false;
        (fn () => $this->failedAt = [])->call($recorder);
        $run($tap, 'update d');
        $recorder->handOver();
        same([3, 1], [$kettle->items()[0]['lost'], $recorder->stats->handedOver]);
        same([1, 2], array_column($kettle->items(), 'seq'));
    },
    'a way that failed is left alone for a while' => function () use ($make, $run) {
        [$recorder, $tap, $kettle] = $make();
        $kettle->refuses = true;
        $run($tap, 'update a');
        $recorder->handOver();
        $kettle->refuses = false;
        $run($tap, 'update b');
        $recorder->handOver();
        same([0, 2], [count($kettle->batches), $recorder->stats->lost]);
    },
    'memory is bounded by number and by bytes' => function () use ($make, $run) {
        [$recorder, $tap, $kettle] = $make(['buffer' => ['queries' => 10]]);
        for ($i = 0; $i < 25; $i++) {
            $run($tap, "select $i");
        }
        same([10, 10], array_map(fn ($batch) => count($batch['items']), $kettle->batches));
        [$recorder, $tap, $kettle] = $make(['buffer' => ['bytes' => 10_000]]);
        for ($i = 0; $i < 10; $i++) {
            $run($tap, 'select ' . str_repeat('x', 4000));
        }
        same(3, count($kettle->batches));
    },
    'a long value is cut when it is bound, and a date is what it was then' => function () use ($make) {
        [$recorder, $tap, $kettle] = $make();
        $date = new DateTime('2026-01-01 00:00:00 UTC');
        $tap->ran('select 1', [str_repeat('x', 100_000), $date], 1.0, 1, [], null, 0);
        $date->modify('+1 year');
        $recorder->finish();
        $bindings = $kettle->items()[0]['bindings'];
        same([100_000, '2026-01-01T00:00:00.000000+00:00'], [$bindings[0]['len'], $bindings[1]['text']]);
    },
    'whoever cannot be told is nobody, and nobody hears of it but the log' => function () use ($make, $run) {
        [$recorder, $tap, $kettle, $log] = $make(['actor' => fn () => throw new RuntimeException('no idea')]);
        $run($tap, 'select 1');
        $recorder->finish();
        same([0, 1, 1], [count($kettle->batches), $recorder->stats->skipped, count($log)]);
    },
    'each request is a producer of its own and begins at one' => function () use ($make, $run) {
        [$recorder, $tap, $kettle] = $make();
        foreach ([1, 2] as $request) {
            $run($tap, 'select 1');
            $recorder->finish();
        }
        same([1, 1], array_column($kettle->items(), 'seq'));
    },
    'an actor of many parts, and a tenant' => function () use ($make, $run) {
        [$recorder, $tap, $kettle] = $make(['actor' => fn () => ['id' => 7, 'name' => 'cron', 'type' => 'system', 'more' => 'x'], 'tenant' => fn () => 42]);
        $run($tap, 'select 1');
        $recorder->finish();
        same([['id' => '7', 'name' => 'cron', 'type' => 'system', 'tenant' => '42']], $kettle->batches[0]['actors']);
    },
];
