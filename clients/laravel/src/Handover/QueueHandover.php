<?php

namespace Auditq\Laravel\Handover;

use Auditq\Laravel\Message;
use Auditq\Laravel\Undelivered;
use Illuminate\Contracts\Container\Container;
use Illuminate\Contracts\Queue\Queue;
use Illuminate\Queue\DatabaseQueue;
use Illuminate\Queue\RedisQueue;
use Illuminate\Redis\RedisManager;
use PDO;
use Throwable;

/**
 * One push to the application's queue, on a connection that nobody else uses.
 *
 * The application's own connection is never written on: a message must not be part of its transaction, nor wait for it.
 */
final class QueueHandover implements Handover
{
    /** The name of our own connection, in the application's configuration for as long as the process lives. */
    public const CONNECTION = 'auditq_handover';

    private ?Queue $queue = null;

    /** @param array{connection: ?string, name: string, timeout: int} $config */
    public function __construct(private readonly Container $app, private readonly array $config)
    {
    }

    public function send(Message $message): void
    {
        try {
            $this->queue ??= $this->open();
            $this->queue->pushRaw($message->payload, $this->config['name']);
        } catch (Throwable $error) {
            // What is broken is not used again: the next push opens another one.
            $this->close();
            throw $error;
        }
    }

    public function name(): string
    {
        return "the queue {$this->config['name']}";
    }

    /** Lets go of the connection. */
    public function close(): void
    {
        $this->queue = null;
        if ($this->app->resolved('db')) {
            $this->app->make('db')->purge(self::CONNECTION);
        }
    }

    private function open(): Queue
    {
        $settings = $this->app->make('config');
        $name = $this->config['connection'] ?? $settings->get('queue.default');
        $queue = $settings->get("queue.connections.$name");
        if (! is_array($queue)) {
            throw new Undelivered("the queue connection $name is not in config/queue.php");
        }
        return match ($queue['driver'] ?? null) {
            'database' => $this->database($queue),
            'redis' => $this->redis($queue),
            'sync', 'null', 'deferred', 'background' => throw new Undelivered("a queue of the driver {$queue['driver']} keeps nothing; name another one in AUDITQ_QUEUE_CONNECTION, or use AUDITQ_HANDOVER=spool"),
            default => $this->app->make('queue')->connection($name),
        };
    }

    /** @param array<string, mixed> $queue */
    private function database(array $queue): Queue
    {
        $settings = $this->app->make('config');
        $name = $queue['connection'] ?? $settings->get('database.default');
        $database = $settings->get("database.connections.$name");
        if (! is_array($database)) {
            throw new Undelivered("the connection $name is not in config/database.php");
        }
        // The database's own persistent handle would be the application's.
        $database['options'] = [PDO::ATTR_TIMEOUT => (int) $this->config['timeout'], PDO::ATTR_PERSISTENT => false] + ($database['options'] ?? []);
        $settings->set('database.connections.' . self::CONNECTION, $database);
        $connection = $this->app->make('db')->connection(self::CONNECTION);
        return $this->ready(new DatabaseQueue($connection, $queue['table'] ?? 'jobs', $queue['queue'] ?? 'default'));
    }

    /** @param array<string, mixed> $queue */
    private function redis(array $queue): Queue
    {
        $redis = $this->app->make('config')->get('database.redis');
        $name = $queue['connection'] ?? 'default';
        $own = ['persistent' => false, 'timeout' => (float) $this->config['timeout'], 'read_timeout' => (float) $this->config['timeout']];
        if (isset($redis[$name])) {
            $redis[$name] = $own + $redis[$name];
        }
        $manager = new RedisManager($this->app, $redis['client'] ?? 'phpredis', array_diff_key($redis, ['client' => 1]));
        return $this->ready(new RedisQueue($manager, $queue['queue'] ?? 'default', $name, $queue['retry_after'] ?? 60));
    }

    private function ready(Queue $queue): Queue
    {
        $queue->setContainer($this->app);
        $queue->setConnectionName(self::CONNECTION);
        return $queue;
    }
}
