<?php

namespace Auditq\Laravel;

use Auditq\Laravel\Handover\NullHandover;
use Auditq\Laravel\Handover\QueueHandover;
use Auditq\Laravel\Handover\SpoolHandover;
use Closure;
use Illuminate\Console\Events\CommandFinished;
use Illuminate\Contracts\Container\Container;
use Illuminate\Database\Connection;
use Illuminate\Database\Events\QueryExecuted;
use Illuminate\Queue\Events\JobExceptionOccurred;
use Illuminate\Queue\Events\JobFailed;
use Illuminate\Queue\Events\JobProcessed;
use Illuminate\Queue\Events\JobProcessing;
use Illuminate\Support\ServiceProvider;
use Throwable;

/** Puts the recorder between the application and its databases. */
final class AuditServiceProvider extends ServiceProvider
{
    /** The connection classes of ours for a driver; each is a small child of the framework's own. */
    private const CONNECTIONS = [
        'mysql' => ['Illuminate\Database\MySqlConnection', Connections\MySqlConnection::class],
        'mariadb' => ['Illuminate\Database\MariaDbConnection', Connections\MariaDbConnection::class],
        'pgsql' => ['Illuminate\Database\PostgresConnection', Connections\PostgresConnection::class],
        'sqlite' => ['Illuminate\Database\SQLiteConnection', Connections\SQLiteConnection::class],
        'sqlsrv' => ['Illuminate\Database\SqlServerConnection', Connections\SqlServerConnection::class],
    ];

    /** @var array<string, Closure> Our resolvers: a process may have several applications, one after the other. */
    private array $resolvers = [];

    /** @var array<string, bool> Drivers of which it was said that less is known of them. */
    private array $told = [];

    public function register(): void
    {
        $this->mergeConfig();
        $this->app->singleton(Recorder::class, fn () => $this->recorder());
        $this->app->singleton(Origin::class);
        // What stands before "@" in a message's job: see LaravelWorker.
        $this->app->bind('auditq', LaravelWorker::class);
        if ($this->isEnabled()) {
            $this->takeDrivers();
        }
    }

    public function boot(): void
    {
        if ($this->app->runningInConsole()) {
            $this->publishes([__DIR__ . '/../config/auditq.php' => $this->app->configPath('auditq.php')], 'auditq-config');
        }
        if (! $this->isEnabled()) {
            return;
        }
        $this->finishWithRequests();
        $this->finishWithJobs();
        $this->app->booted(fn () => $this->listenToTheRest());
    }

    /** What the application does not say is as shipped, group by group. */
    private function mergeConfig(): void
    {
        $config = $this->app->make('config');
        $said = (array) $config->get('auditq', []);
        foreach (require __DIR__ . '/../config/auditq.php' as $key => $shipped) {
            if (! array_key_exists($key, $said)) {
                $said[$key] = $shipped;
            } elseif (is_array($shipped) && ! array_is_list($shipped)) {
                $said[$key] = (array) $said[$key] + $shipped;
            }
        }
        $said['app'] = $said['app'] ?: $config->get('app.name');
        if ($said['handover'] === 'spool') {
            // Where `auditq work --laravel` looks.
            $said['spool']['dir'] = $said['spool']['dir'] ?: $this->app->storagePath() . '/auditq-spool';
        }
        $config->set('auditq', $said);
    }

    private function isEnabled(): bool
    {
        $config = $this->app->make('config')->get('auditq');
        return (bool) $config['enabled'];
    }

    /** Makes connections that tell of their statements, unless the application makes its own. */
    private function takeDrivers(): void
    {
        foreach (self::CONNECTIONS as $driver => [$framework, $ours]) {
            $there = Connection::getResolver($driver);
            $isOurs = $there !== null && (new \ReflectionFunction($there))->getClosureThis() instanceof self;
            if (($there !== null && ! $isOurs) || ! class_exists($framework)) {
                continue;
            }
            $this->resolvers[$driver] = function ($pdo, $database, $prefix, $config) use ($driver, $ours): Connection {
                return (new $ours($pdo, $database, $prefix, $config))->recordWith($this->tap($driver, (string) $database, $config));
            };
            Connection::resolverFor($driver, $this->resolvers[$driver]);
        }
    }

    /** @param array<string, mixed> $config */
    private function tap(string $driver, string $database, array $config): ?Tap
    {
        try {
            $name = (string) ($config['name'] ?? '');
            if ($this->isIgnored($name)) {
                return null;
            }
            return $this->app->make(Recorder::class)->tap($name, $driver, $driver === 'sqlite' ? basename($database) : $database);
        } catch (Throwable $trouble) {
            $this->log("auditq cannot record the connection: {$trouble->getMessage()}");
            return null;
        }
    }

    private function isIgnored(string $connection): bool
    {
        return $connection === QueueHandover::CONNECTION
            || in_array($connection, $this->app->make('config')->get('auditq.ignore.connections'), true);
    }

    /**
     * Takes from `DB::listen` what comes by connections that are not ours: made by the application's own resolver,
     * by `DB::extend`, or before this provider. Of those neither failures nor rows nor transactions are known.
     */
    private function listenToTheRest(): void
    {
        $isOurs = fn (string $driver) => Connection::getResolver($driver) === $this->resolvers[$driver];
        $all = count(array_filter(array_keys($this->resolvers), $isOurs)) === count(array_filter(self::CONNECTIONS, fn (array $classes) => class_exists($classes[0])));
        $database = $this->app->resolved('db') ? $this->app->make('db') : null;
        $extended = $database !== null && property_exists($database, 'extensions') && (fn () => $this->extensions)->call($database) !== [];
        $strangers = $database === null ? [] : array_filter($database->getConnections(), fn ($connection) => ! method_exists($connection, 'recordWith'));
        if ($all && ! $extended && $strangers === []) {
            return;
        }
        $taps = new \WeakMap();
        $this->app->make('events')->listen(QueryExecuted::class, function (QueryExecuted $query) use ($taps): void {
            $connection = $query->connection;
            if (method_exists($connection, 'recordWith') || $connection->pretending() || $this->isIgnored((string) $connection->getName())) {
                return;
            }
            $driver = $connection->getDriverName();
            if (! isset($this->told[$driver])) {
                $this->told[$driver] = true;
                $this->log("auditq records {$driver} by DB::listen only, because the application makes its own connections: no failures, rows or transactions");
            }
            $taps[$connection] ??= $this->app->make(Recorder::class)->tap((string) $connection->getName(), $driver, (string) $connection->getDatabaseName());
            $ms = (float) $query->time;
            $taps[$connection]->heard($query->sql, $query->bindings, microtime(true) - $ms / 1000, (int) ($ms * 1e6), $connection->transactionLevel());
        });
    }

    /** After the response; at the end of a command; and whatever ends the process. */
    private function finishWithRequests(): void
    {
        $finish = fn () => $this->finish();
        $this->app->terminating($finish);
        register_shutdown_function($finish);
        $events = $this->app->make('events');
        if (class_exists(CommandFinished::class)) {
            $events->listen(CommandFinished::class, $finish);
        }
        $events->listen('Laravel\Octane\Events\RequestReceived', fn ($event) => $this->app->make(Recorder::class)->finish($event->sandbox));
    }

    private function finishWithJobs(): void
    {
        $events = $this->app->make('events');
        $isOwn = fn ($event) => $event->connectionName === 'sync';
        $events->listen(JobProcessing::class, function (JobProcessing $event) use ($isOwn): void {
            if (! $isOwn($event)) {
                $this->finish();
                $this->app->make(Origin::class)->job = (string) ($event->job->uuid() ?? $event->job->getJobId());
            }
        });
        $events->listen([JobProcessed::class, JobExceptionOccurred::class, JobFailed::class], function ($event) use ($isOwn): void {
            if (! $isOwn($event)) {
                $this->finish();
            }
        });
    }

    private function finish(): void
    {
        try {
            if ($this->app->resolved(Recorder::class)) {
                $this->app->make(Recorder::class)->finish();
            }
            $this->app->make(Origin::class)->job = null;
        } catch (Throwable $trouble) {
            $this->log("auditq could not finish: {$trouble->getMessage()}");
        }
    }

    private function recorder(): Recorder
    {
        $config = $this->app->make('config')->get('auditq');
        $key = (string) ($config['redact']['key'] ?? '');
        if ($key !== '' && preg_match('/^[0-9a-f]{64}$/i', $key) !== 1) {
            $this->log('auditq hides secrets without a hash: AUDITQ_REDACTION_KEY is not 64 hexadecimal digits');
        }
        $spool = fn () => new SpoolHandover($config['spool']);
        $hasSpool = (string) ($config['spool']['dir'] ?? '') !== '';
        $ways = match ($config['handover']) {
            'queue' => [new QueueHandover($this->app, $config['queue']), ...($hasSpool ? [$spool()] : [])],
            'spool' => [$spool()],
            'null', null => [new NullHandover()],
            default => throw new Undelivered("AUDITQ_HANDOVER is {$config['handover']}; it takes queue, spool or null"),
        };
        $origin = fn () => $this->app->make(Origin::class)->describe((int) $config['limits']['user_agent_bytes']);
        return new Recorder($this->app, $config, $ways, $origin, $this->log(...), $this->app->runningInConsole());
    }

    private function log(string $message): void
    {
        try {
            $this->app->make('log')->warning($message);
        } catch (Throwable) {
            error_log($message);
        }
    }
}
