<?php
// What the tests ask of the application beside its own commands: php laravel_app.php FOLDER save|restore|rows|break|wipe|mail|chain|mails|attempts|cache|pause|resume|down|up|push|hostile|failed-at|age-failed
error_reporting(E_ALL & ~E_DEPRECATED);
[, $folder, $action] = $argv;
require "$folder/bootstrap/autoload.php";
$app = require "$folder/bootstrap/app.php";
$app->make(Illuminate\Contracts\Console\Kernel::class)->bootstrap();

use Illuminate\Support\Facades\Artisan;
use Illuminate\Support\Facades\Cache;

$audit = Illuminate\Support\Facades\DB::connection('audit');
$redis = fn () => Illuminate\Support\Facades\Redis::connection();
$on_redis = config('queue.default') === 'redis';
$saved = "$folder/storage/jobs.json";

switch ($action) {
    case 'save':
        $jobs = $on_redis ? $redis()->lrange('queues:audit-logs', 0, -1) : $audit->table('jobs')->orderBy('id')->get();
        file_put_contents($saved, json_encode($jobs));
        break;
    case 'restore':
        $audit->table('audit_sql_logs')->delete();
        foreach (json_decode(file_get_contents($saved), true) as $job) {
            if ($on_redis) {
                $redis()->rpush('queues:audit-logs', $job);
                $redis()->rpush('queues:audit-logs:notify', 1);
            } else {
                $audit->table('jobs')->insert($job);
            }
        }
        break;
    case 'break':
        App\Jobs\ProcessAuditLog::dispatch(['query_hash' => 'broken', 'username' => 'alice']);
        break;
    case 'mail':
        for ($number = 0; $number < 1000; $number++) {
            App\Jobs\SendMail::dispatch($number)->onQueue('audit-logs');
        }
        break;
    case 'chain':
        App\Jobs\ProcessAuditLog::withChain([new App\Jobs\SendMail(7)])->dispatch([
            'query_hash' => 'chained', 'username' => 'alice', 'sql' => 'select 1', 'bindings' => [], 'time' => 1,
            'connection' => 'app', 'executed_at' => '2024-01-01 00:00:00',
        ]);
        break;
    case 'mails':
        echo file_exists("$folder/storage/mails") ? count(file("$folder/storage/mails")) : 0, "\n";
        break;
    case 'attempts':
        $tries = $on_redis
            ? collect($redis()->lrange('queues:audit-logs', 0, -1))
                ->concat($redis()->zrange('queues:audit-logs:delayed', 0, -1))
                ->map(fn ($job) => json_decode($job, true)['attempts'])
            : $audit->table('jobs')->pluck('attempts');
        echo json_encode(['jobs' => count($tries), 'attempts' => $tries->sum()]), "\n";
        break;
    case 'cache':
        Illuminate\Support\Facades\Schema::connection('audit')->create('cache', function ($table) {
            $table->string('key')->unique();
            $table->text('value');
            $table->integer('expiration');
        });
        break;
    case 'pause':
    case 'resume':
        // What Laravel has no command for before 12.40 and 10, the later ones write into the cache like this.
        $name = config('queue.default') . ':audit-logs';
        if (isset(Artisan::all()["queue:$action"])) {
            Artisan::call("queue:$action", ['queue' => $name]);
        } elseif ($action === 'pause') {
            Cache::forever("illuminate:queue:paused:$name", true);
        } else {
            Cache::forget("illuminate:queue:paused:$name");
        }
        break;
    case 'down':
    case 'up':
        if (method_exists($app, 'maintenanceMode')) {
            Artisan::call($action);
        } elseif ($action === 'down') {
            Cache::forever('illuminate:foundation:down', ['status' => 503]);
        } else {
            Cache::forget('illuminate:foundation:down');
        }
        break;
    case 'push':
        Illuminate\Support\Facades\Queue::pushRaw(file_get_contents("$folder/payload"), 'audit-logs');
        break;
    case 'hostile':
        App\Jobs\ProcessAuditLog::dispatch(['sql' => 'select 1', 'username' => 'Zoë']);
        if ($on_redis) {
            $real = $redis()->lpop('queues:audit-logs');
        } else {
            $real = $audit->table('jobs')->first()->payload;
            $audit->table('jobs')->delete();
        }
        $of = fn (string $data) => json_encode(['maxTries' => 1, 'data' => [
            'commandName' => 'App\Jobs\ProcessAuditLog',
            'command' => 'O:24:"App\Jobs\ProcessAuditLog":1:{s:9:"queryData";' . $data,
        ]] + json_decode($real, true));
        $laughs = 's:3:"sql";s:1:"x";i:0;a:1:{i:0;i:0;}';
        for ($level = 1; $level < 60; $level++) {
            $laughs .= "i:$level;a:2:{i:0;R:" . ($level * 3 + 1) . ";i:1;R:" . ($level * 3 + 1) . ';}';
        }
        $hostile = [
            $of(str_repeat('a:1:{i:0;', 1000000)), $of('a:999999999:{'), $of('s:104857600:"x'), $of('a:2:{s:3:"sql";R:1;i:0;r:2;}}'),
            $of('a:1:{s:4:"self";R:2;}}'), $of('a:61:{' . $laughs . '}}'), $of('s:104857600:"' . str_repeat('x', 100 << 20) . '";}'),
            "\xff\xfe", str_replace('Zo', "Zo\xc3\x28", $real), str_repeat('[', 8 << 20), '', '{}', '[]', 'null', "a\0b",
        ];
        for ($end = 1; $end < strlen($real); $end++) {
            $hostile[] = substr($real, 0, $end);
        }
        // What an engine or its server's limits refuse, nobody can put there.
        $refused = [];
        foreach ($hostile as $payload) {
            try {
                if ($on_redis) {
                    $redis()->rpush('queues:audit-logs', $payload);
                } else {
                    $audit->table('jobs')->insert([
                        'queue' => 'audit-logs', 'payload' => $payload, 'attempts' => 0, 'reserved_at' => null,
                        'available_at' => time() - 60, 'created_at' => time() - 60,
                    ]);
                }
            } catch (Illuminate\Database\QueryException $no) {
                $refused[] = strlen($payload) > 100 ? strlen($payload) . ' bytes' : bin2hex($payload);
                $audit->reconnect();
            }
        }
        echo json_encode(['there' => count($hostile) - count($refused), 'refused' => $refused]), "\n";
        break;
    case 'failed-at':
        foreach ($audit->table('failed_jobs')->orderBy('id')->pluck('failed_at') as $failed_at) {
            echo $failed_at, "\n";
        }
        break;
    case 'age-failed':
        foreach ($audit->table('failed_jobs')->get() as $failed) {
            $before = Illuminate\Support\Carbon::parse($failed->failed_at)->subHours(2);
            $audit->table('failed_jobs')->where('id', $failed->id)->update(['failed_at' => $before]);
        }
        break;
    case 'wipe':
        $prefix = config('database.redis.options.prefix');
        foreach ($redis()->keys('*') as $key) {
            $redis()->del(substr($key, strlen($prefix)));
        }
        break;
    case 'rows':
        foreach ($audit->table('audit_sql_logs')->orderBy('query_hash')->get() as $row) {
            $row = (array) $row;
            unset($row['id']);
            echo json_encode($row), "\n";
        }
        break;
}
