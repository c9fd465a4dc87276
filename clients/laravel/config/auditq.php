<?php

return [

    // Record at all.
    'enabled' => (bool) env('AUDIT_LOG_ENABLED', true),

    // The application's name in the log.
    'app' => env('AUDITQ_APP', env('APP_NAME')),

    // Where a request's statements go once the response is sent: "queue", "spool" (files that `auditq work` on this host
    // forwards) or "null" (nowhere). With "queue" and a spool folder, the spool takes what the queue does not.
    'handover' => env('AUDITQ_HANDOVER', 'queue'),

    'queue' => [
        // One of config/queue.php; the default one where nothing is said.
        'connection' => env('AUDITQ_QUEUE_CONNECTION'),
        'name' => env('QUEUE_NAME', 'audit-logs'),
        // Seconds to connect, and to wait for a lock: the worker process serves nobody else meanwhile.
        'timeout' => 2,
    ],

    'spool' => [
        // The folder that `auditq work` has as spool.dir; files go into "inbox" in it. Where "spool" is the handover and
        // nothing is said, it is storage/auditq-spool, where `auditq work --laravel` looks.
        'dir' => env('AUDITQ_SPOOL_DIR'),
        // 0660 where another user of the same group forwards them.
        'mode' => 0600,
        // Bytes that may wait; what comes then is dropped, and counted.
        'max_bytes' => 1 << 30,
        // True to survive a power cut too.
        'fsync' => false,
    ],

    // Who a statement runs for: null for the user that a guard has resolved already, or a callable or the name of an
    // invokable class. It gets the container and returns null, a name, or an array with any of
    // id, name, type (user, job, system), guard, tenant. It is called for each statement: no queries in it.
    'actor' => null,

    // The same for the tenant alone; returns a text or null.
    'tenant' => null,

    // Attributes of the user that may be the name people know it by; the first one that is filled counts.
    'user_name' => ['username', 'name', 'email'],

    // Record statements for which nobody is signed in.
    'track_anonymous' => (bool) env('AUDITQ_TRACK_ANONYMOUS', false),

    // The same statement again, by the same user with the same bindings: "collapse" to one row with a count, "drop" or
    // "off"; for how many seconds it counts as the same.
    'duplicates' => env('AUDITQ_DUPLICATES', 'collapse'),
    'ttl' => (int) env('AUDIT_LOG_TTL', 300),

    'ignore' => [
        // Names of connections in config/database.php.
        'connections' => [],
        // A statement whose first table is one of these; a star stands for anything.
        'tables' => ['jobs', 'failed_jobs', 'job_batches', 'cache', 'cache_locks', 'sessions', 'audit_sql_logs', 'auditq_*'],
    ],

    'redact' => [
        // Names of columns and parameters that hold secrets, besides the built-in ones; built-in ones that are none here.
        'names' => [],
        'except' => [],
        // 64 hexadecimal digits, the same as auditq's own: equal secrets can then be told to be equal.
        'key' => env('AUDITQ_REDACTION_KEY'),
    ],

    // Bytes of what is kept of each.
    'limits' => [
        'sql_bytes' => 65536,
        'binding_bytes' => 4096,
        'bindings_bytes' => 16384,
        'bindings_count' => 256,
        'error_bytes' => 1024,
        'user_agent_bytes' => 512,
    ],

    // What a process holds before it hands over early: a long request, or a command.
    'buffer' => [
        'queries' => 1000,
        'bytes' => 512 << 10,
        // In a command or a worker: also when the oldest is so old.
        'seconds' => 10,
    ],

];
