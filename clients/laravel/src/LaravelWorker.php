<?php

namespace Auditq\Laravel;

use Illuminate\Contracts\Queue\Factory;
use Illuminate\Contracts\Queue\Job;
use Illuminate\Queue\DatabaseQueue;

/**
 * What Laravel's own worker calls when it meets a message for auditq: it puts it back, untouched, for auditq's worker.
 *
 * Without this package Laravel's worker fails the message into `failed_jobs`, and `queue:retry` brings it back.
 */
final class LaravelWorker
{
    /** Seconds after which it is looked at again. */
    private const DELAY = 60;

    public function __construct(private readonly Factory $queues)
    {
    }

    /**
     * Puts the message in the queue anew and takes this one out: given back as a job is, it would use up its tries.
     *
     * Ended in between, the message is there twice under one identity, and stored once.
     *
     * @param array<string, mixed> $data
     */
    public function queries(Job $job, array $data): void
    {
        $queue = $this->queues->connection($job->getConnectionName());
        $name = $job->getQueue();
        $payload = $job->getRawBody();
        if ($queue instanceof DatabaseQueue) {
            $queue->release($name, (object) ['payload' => $payload, 'attempts' => 0], self::DELAY);
        } elseif (method_exists($queue, 'laterRaw')) {
            // What Laravel offers for this is not for others to call.
            $later = (fn (int $delay) => $this->laterRaw($delay, $payload, $name))->bindTo($queue, $queue::class);
            $later(self::DELAY);
        } else {
            $job->release(self::DELAY);
            return;
        }
        $job->delete();
    }
}
