<?php

namespace Auditq\Laravel;

use Illuminate\Container\Container;
use Illuminate\Http\Request;

/** Says which request, command or job it is. */
final class Origin
{
    /** The uuid of the job that is running. */
    public ?string $job = null;

    /** @return array<string, string> */
    public function describe(int $userAgentBytes): array
    {
        if ($this->job !== null) {
            return ['kind' => 'job', 'request_id' => $this->job];
        }
        $app = Container::getInstance();
        $request = $app->bound('request') && $app->resolved('request') ? $app->make('request') : null;
        if (! $request instanceof Request || ($app->runningInConsole() && ! $app->bound('octane'))) {
            return ['kind' => 'cli'];
        }
        $trace = preg_match('/^[0-9a-f]{2}-([0-9a-f]{32})-/', (string) $request->header('traceparent'), $found) === 1 ? $found[1] : '';
        return array_filter([
            'kind' => 'http',
            'request_id' => self::line((string) $request->header('X-Request-Id'), 200),
            'trace_id' => $trace,
            'ip' => (string) $request->ip(),
            'method' => $request->method(),
            // Never with the query string.
            'path' => self::line('/' . ltrim($request->path(), '/'), 1024),
            'user_agent' => self::line((string) $request->userAgent(), $userAgentBytes),
        ], fn (string $text) => $text !== '');
    }

    private static function line(string $text, int $bytes): string
    {
        return mb_strcut(mb_scrub($text, 'UTF-8'), 0, $bytes, 'UTF-8');
    }
}
