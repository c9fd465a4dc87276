<?php
// What the tests of clients/laravel do in the application: php laravel_package.php FOLDER ACTION [ARGUMENT]
error_reporting(E_ALL & ~E_DEPRECATED);
[, $folder, $action] = $argv;
$argument = $argv[3] ?? '';
if (in_array($action, ['request', 'anonymous'], true)) {
    putenv('APP_RUNNING_IN_CONSOLE=false');
}
require "$folder/bootstrap/autoload.php";
$app = require "$folder/bootstrap/app.php";

use Illuminate\Auth\GenericUser;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Auth;
use Illuminate\Support\Facades\DB;
use Illuminate\Support\Facades\Route;

function waiting(): int
{
    if (config('queue.default') === 'redis') {
        return Illuminate\Support\Facades\Redis::connection()->llen('queues:audit-logs');
    }
    return (int) DB::connection('audit')->table('jobs')->count();
}

function attempt(Closure $what): void
{
    try {
        $what();
    } catch (Throwable $expected) {
        echo get_class($expected), "\n";
    }
}

/** Statements of each kind, on the application's own connection. */
function shopping(string $secret): void
{
    $app = DB::connection('app');
    foreach (['notes', 'accounts'] as $table) {
        $app->getSchemaBuilder()->dropIfExists($table);
    }
    $app->getSchemaBuilder()->create('notes', function ($table): void {
        $table->integer('id')->primary();
        $table->string('text');
        $table->binary('data')->nullable();
    });
    $app->getSchemaBuilder()->create('accounts', function ($table): void {
        $table->integer('id')->primary();
        $table->string('email');
        $table->string('password');
    });
    $app->table('notes')->insert([['id' => 1, 'text' => 'one'], ['id' => 2, 'text' => 'zwölf 🎉']]);
    $app->table('notes')->where('id', '>', 0)->update(['text' => 'both']);
    $app->table('notes')->where('id', '<', 10)->get();
    attempt(fn () => $app->table('notes')->insert(['text' => 'again', 'id' => 1]));
    attempt(fn () => $app->select('selekt 1'));
    $app->transaction(fn () => $app->table('notes')->where('id', 1)->update(['text' => 'committed']));
    attempt(fn () => $app->transaction(function () use ($app): void {
        $app->table('notes')->where('id', 1)->update(['text' => 'undone']);
        throw new RuntimeException('undo');
    }));
    $app->beginTransaction();
    $app->table('notes')->where('id', 1)->update(['text' => 'outer']);
    $app->beginTransaction();
    $app->table('notes')->where('id', 1)->update(['text' => 'inner']);
    $app->rollBack();
    $app->commit();
    for ($times = 0; $times < 3; $times++) {
        $app->select('select count(*) as many from notes where id <> ?', [7]);
    }
    // A value that is no text in any encoding, as the database's own type wants it.
    $app->select('select ? as bytes', [$app->getDriverName() === 'pgsql' ? 'no bytes in PostgreSQL' : "\xFF\xFE\x00"]);
    $app->select('select 1 where 1 = ? and 2.5 = ? and ? = 1', [1, 2.5, true]);
    $app->table('accounts')->insert(['id' => 1, 'email' => 'a@example.com', 'password' => $secret]);
    attempt(fn () => $app->select("select id from accounts where password = '$secret' and nowhere = 1"));
    foreach ($app->table('notes')->orderBy('id')->cursor() as $row) {
        // Read one by one.
    }
    $app->pretend(fn () => $app->table('notes')->delete());
}

function serve(Closure $page, string $path): void
{
    global $app;
    $app->singleton(Illuminate\Contracts\Http\Kernel::class, Illuminate\Foundation\Http\Kernel::class);
    $kernel = $app->make(Illuminate\Contracts\Http\Kernel::class);
    $app->booted(fn () => Route::get($path, $page));
    $request = Request::create("$path?token=geheim", 'GET', [], [], [], ['HTTP_X_REQUEST_ID' => 'r-17', 'HTTP_USER_AGENT' => 'Test/1', 'REMOTE_ADDR' => '192.0.2.7', 'HTTP_TRACEPARENT' => '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01']);
    $response = $kernel->handle($request);
    echo $response->getStatusCode(), ' ', $response->getContent(), "\n", 'before the response: ', waiting(), "\n";
    $kernel->terminate($request, $response);
    echo 'after it: ', waiting(), "\n";
}

$console = function () use ($app) {
    $kernel = $app->make(Illuminate\Contracts\Console\Kernel::class);
    $kernel->bootstrap();
    $app->instance('audit.username', 'alice');
};

switch ($action) {
    case 'shop':
        $console();
        shopping($argument);
        $app->terminate();
        break;
    case 'request':
        serve(function () use ($app) {
            config(['auditq.actor' => null, 'auth' => ['defaults' => ['guard' => 'web'], 'guards' => ['web' => ['driver' => 'token', 'provider' => 'users']], 'providers' => ['users' => ['driver' => 'database', 'table' => 'users']]]]);
            $app->register(Illuminate\Hashing\HashServiceProvider::class);
            $app->register(Illuminate\Auth\AuthServiceProvider::class);
            DB::connection('app')->select('select 1 as before_login');
            Auth::guard('web')->setUser(new GenericUser(['id' => 7, 'username' => 'alice']));
            DB::connection('app')->select('select 2 as after_login');
            Auth::forgetGuards();
            DB::connection('app')->select('select 3 as after_logout');
            return 'shown';
        }, '/orders/17');
        break;
    case 'anonymous':
        serve(function () {
            DB::connection('app')->select('select 1 as nobody');
            return 'shown';
        }, '/');
        break;
    case 'payloads':
        $console();
        $queue = config('queue.default') === 'redis'
            ? Illuminate\Support\Facades\Redis::connection()->lrange('queues:audit-logs', 0, -1)
            : DB::connection('audit')->table('jobs')->orderBy('id')->pluck('payload')->all();
        foreach ($queue as $payload) {
            echo $payload, "\n";
        }
        break;
    case 'own-resolver':
        Illuminate\Database\Connection::resolverFor('sqlite', fn (...$parts) => new Illuminate\Database\SQLiteConnection(...$parts));
        $console();
        DB::connection('app')->select('select 5 as heard');
        DB::connection('app')->select('select 6 as heard_too');
        $app->terminate();
        break;
    case 'open':
        // More than is held, in a transaction that is committed later.
        $console();
        $db = DB::connection('app');
        $db->beginTransaction();
        for ($number = 0; $number < (int) $argument; $number++) {
            $db->table('orders')->insert(['status' => "s$number"]);
        }
        $db->commit();
        $app->terminate();
        break;
    case 'hurry':
        // What was given back is to be looked at now.
        $console();
        if (config('queue.default') === 'redis') {
            foreach (Illuminate\Support\Facades\Redis::connection()->zrange('queues:audit-logs:delayed', 0, -1) as $payload) {
                Illuminate\Support\Facades\Redis::connection()->zadd('queues:audit-logs:delayed', 1, $payload);
            }
        } else {
            DB::connection('audit')->table('jobs')->update(['available_at' => 1]);
        }
        break;
    case 'end':
        // The process ends without a word to the kernel.
        $console();
        DB::connection('app')->select('select 9 as last_words');
        exit(3);
}
