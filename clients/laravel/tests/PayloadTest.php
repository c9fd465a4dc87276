<?php

use Auditq\Laravel\Payload;
use Auditq\Laravel\Recorder;
use Auditq\Laravel\Secrets;
use Auditq\Laravel\Tap;

// What the shipped configuration asks Laravel for.
if (! function_exists('env')) {
    function env(string $name, mixed $default = null): mixed
    {
        return $default;
    }
}

$recorder = (new ReflectionClass(Recorder::class))->newInstanceWithoutConstructor();
$tap = new Tap($recorder, ['connection' => 'app', 'system' => 'mysql', 'name' => 'shop']);
$entry = fn (string $sql, array $bindings = [], array $more = []) => $more + [1_700_000_000.25, 9, $sql, $bindings, $tap, 0, null, null, null, null, 'autocommit'];
$payload = function (array $entries, array $config = [], array $outcomes = [], ?array $gap = null): array {
    $shipped = require __DIR__ . '/../config/auditq.php';
    $config = array_replace_recursive($shipped, $config);
    $payload = new Payload($config, new Secrets($config['redact']), str_repeat('ab', 16), ['kind' => 'cli'], [['name' => 'alice']]);
    $message = $payload->of($entries, $outcomes, $gap, 10);
    $json = $message === null ? null : json_decode($message->payload, true, 512, JSON_THROW_ON_ERROR);
    return [$json === null ? [] : json_decode($json['data']['batch'], true, 512, JSON_THROW_ON_ERROR), $json, $payload];
};

return [
    'a message has the keys that Laravel looks for, and one identity' => function () use ($payload, $entry) {
        [, $json] = $payload([1 => $entry('select 1')]);
        foreach (['uuid', 'displayName', 'job', 'maxTries', 'maxExceptions', 'failOnTimeout', 'backoff', 'timeout', 'data', 'id', 'attempts'] as $key) {
            same(true, array_key_exists($key, $json), $key);
        }
        same([1, 'auditq@queries', 0], [preg_match('/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/', $json['uuid']), $json['job'], $json['attempts']]);
        same(true, $json['uuid'] === $json['id']);
    },
    'numbers go on where the request was, and each statement is there once' => function () use ($payload, $entry) {
        [$batch] = $payload([5 => $entry('select 1'), 6 => $entry('select 2'), 7 => $entry('select 1', [1])]);
        same([11, 12, 13], array_column($batch['items'], 'seq'));
        same(['select 1', 'select 2'], $batch['statements']);
        same([0, 1, 0], array_column($batch['items'], 'statement'));
        same(1_700_000_000_250_000, $batch['items'][0]['at']);
    },
    'the same again is counted, dropped, or kept' => function () use ($payload, $entry) {
        $later = [0 => 1_700_000_001.0];
        $entries = [1 => $entry('select 1', [7]), 2 => $entry('select 1', [7], $later), 3 => $entry('select 1', ['7']), 4 => $entry('select 1', [7], [9 => 't1'])];
        [$batch] = $payload($entries);
        same([2, null, null], array_map(fn ($item) => $item['repeat'] ?? null, $batch['items']));
        same(1_700_000_001_000_000, $batch['items'][0]['last_at']);
        [$batch] = $payload($entries, ['duplicates' => 'drop']);
        same([null, null, null], array_map(fn ($item) => $item['repeat'] ?? null, $batch['items']));
        same(4, count($payload($entries, ['duplicates' => 'off'])[0]['items']));
        same(4, count($payload($entries, ['ttl' => 0])[0]['items']));
    },
    'two secrets are two statements, though neither is sent' => function () use ($payload, $entry) {
        [$batch, $json] = $payload([1 => $entry('select 1 where token = ?', ['one-secret']), 2 => $entry('select 1 where token = ?', ['other-secret'])]);
        same(2, count($batch['items']));
        same(false, str_contains(json_encode($json), '-secret'));
    },
    'tables of the framework are left out' => function () use ($payload, $entry) {
        $ignored = ['select * from `jobs` where id = ?', 'delete from "jobs" where id = 1', 'insert into failed_jobs (a) values (?)', 'update `cache` set value = ?', 'select * from shop.sessions', 'insert into auditq_stored values (1)', 'create table if not exists jobs (id int)'];
        [, $json, $made] = $payload(array_map($entry, $ignored));
        same([null, count($ignored)], [$json, $made->ignored]);
        $kept = ['select * from orders join jobs on 1 = 1', 'select 1', "select 'from jobs'", 'select * from my_jobs', 'delete from orders', 'insert into orders select * from jobs'];
        same(count($kept) - 1, count($payload(array_map($entry, array_diff($kept, ["select 'from jobs'"])))[0]['items']));
    },
    'bindings are cut at their limits and say how many there were' => function () use ($payload, $entry) {
        [$batch] = $payload([1 => $entry('select 1', array_fill(0, 300, 1))]);
        same([256, 300], [count($batch['items'][0]['bindings']), $batch['items'][0]['bindings_total']]);
        [$batch] = $payload([1 => $entry('select 1', array_fill(0, 6, str_repeat('x', 4000)))]);
        $bindings = $batch['items'][0]['bindings'];
        same([true, true, 'text', 4000], [is_string($bindings[0]), is_string($bindings[3]), $bindings[4]['cut'], $bindings[4]['len']]);
        [$batch] = $payload([1 => $entry('select 1', ["\xFF", INF, 1.0, null, true])]);
        same([['base64' => '/w=='], ['float' => 'INF'], 1.0, null, true], $batch['items'][0]['bindings']);
    },
    'a text over the limit is its head, and all its bindings count as secrets when it may hold one' => function () use ($payload, $entry) {
        $sql = 'select ? ' . str_repeat('/* */', 20_000) . ' password = ?';
        [$batch] = $payload([1 => $entry($sql, ['a', 'b'])]);
        same([65536, strlen($sql)], [strlen($batch['statements'][0]['sql']), $batch['statements'][0]['len']]);
        same([['secret' => 'text'], ['secret' => 'text']], $batch['items'][0]['bindings']);
    },
    'named bindings come in the order of the statement' => function () use ($payload, $entry) {
        [$batch] = $payload([1 => $entry('select 1 where a = :a and b = :b', ['b' => 2, 'a' => 1])]);
        same([1, 2], $batch['items'][0]['bindings']);
    },
    'what is no text in any encoding does not stop the message' => function () use ($payload, $entry) {
        [$batch] = $payload([1 => $entry("select '\xFF'"), 2 => $entry('select 2', [], [8 => ['1', "near '\xFF'"]])]);
        same("select '\u{FFFD}'", $batch['statements'][0]);
        same('error', $batch['items'][1]['status']);
    },
    'losses and late outcomes are items too' => function () use ($payload) {
        [$batch] = $payload([], [], ['committed' => [[1_700_000_000_250_000, 3]]], ['lost' => 4, 'first_at' => 1, 'last_at' => 2]);
        same(['seq' => 11, 'lost' => 4, 'first_at' => 1, 'last_at' => 2, 'reason' => 'the application could not hand them over'], $batch['items'][0]);
        same(['outcome' => 'committed', 'of' => [[1_700_000_000_250_000, 3]]], $batch['items'][1]);
    },
];
