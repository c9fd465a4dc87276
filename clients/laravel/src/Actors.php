<?php

namespace Auditq\Laravel;

use Closure;
use Illuminate\Contracts\Container\Container;
use Throwable;

/**
 * Who statements run for, snapshotted when they run; each once a request.
 *
 * Never asks a guard who the user is, because that may be a query: only a user who was resolved already counts.
 */
final class Actors
{
    /** @var list<array<string, string>> */
    public array $all = [];

    private mixed $lastSeen = null;
    private mixed $lastTenant = null;
    private ?int $last = null;
    private ?object $auth = null;
    private ?Closure $guards = null;
    private mixed $actor;
    private mixed $tenant;

    /** @param array<string, mixed> $config */
    public function __construct(private Container $app, private array $config, private Recorder $recorder)
    {
        $this->actor = $config['actor'] ?? null;
        $this->tenant = $config['tenant'] ?? null;
    }

    /** The place in `all` of whoever it is now; null when the statement is to be skipped. */
    public function current(): ?int
    {
        $seen = $this->actor === null ? $this->resolvedUser() : $this->ask($this->actor);
        $tenant = $this->tenant === null ? null : $this->ask($this->tenant);
        if ($this->last !== null && $seen === $this->lastSeen && $tenant === $this->lastTenant) {
            return $this->last;
        }
        $actor = $this->describe($seen);
        if ($actor === [] && ! $this->config['track_anonymous']) {
            return null;
        }
        if (is_scalar($tenant)) {
            $actor['tenant'] = (string) $tenant;
        }
        if (($session = $this->sessionHash()) !== null) {
            $actor['session_hash'] = $session;
        }
        [$this->lastSeen, $this->lastTenant] = [$seen, $tenant];
        $known = array_search($actor, $this->all, true);
        if ($known === false) {
            $this->all[] = $actor;
            $known = count($this->all) - 1;
        }
        return $this->last = $known;
    }

    /** Begins anew: another request. */
    public function reset(Container $app): void
    {
        $this->app = $app;
        $this->all = [];
        $this->lastSeen = $this->lastTenant = $this->last = $this->auth = $this->guards = null;
    }

    /** @return array{object, string}|object|null the user whom a guard has resolved, the default guard first */
    private function resolvedUser(): mixed
    {
        if ($this->auth === null) {
            if (! $this->app->resolved('auth')) {
                return null;
            }
            $this->auth = $this->app->make('auth');
            $this->guards = property_exists($this->auth, 'guards') ? (fn () => $this->guards)->bindTo($this->auth, $this->auth::class) : null;
        }
        $guards = $this->guards === null ? [] : ($this->guards)();
        if (count($guards) > 1) {
            $default = $this->auth->getDefaultDriver();
            $guards = isset($guards[$default]) ? [$default => $guards[$default]] + $guards : $guards;
        }
        foreach ($guards as $guard) {
            if (method_exists($guard, 'hasUser') && $guard->hasUser()) {
                return $guard->user();
            }
        }
        return null;
    }

    /** What a callable of the configuration says, or the class that is named there. */
    private function ask(mixed &$who): mixed
    {
        if (is_string($who) && ! is_callable($who)) {
            $who = $this->app->make($who);
        }
        try {
            return $who($this->app);
        } catch (Throwable $trouble) {
            $this->recorder->trouble('ask who a statement runs for', $trouble);
            return null;
        }
    }

    /** @return array<string, string> empty for nobody */
    private function describe(mixed $who): array
    {
        if ($who === null || $who === '' || $who === false || $who === []) {
            return [];
        }
        if (is_scalar($who)) {
            return ['type' => 'user', 'name' => (string) $who];
        }
        if (is_array($who)) {
            $known = array_intersect_key($who, ['id' => 1, 'name' => 1, 'type' => 1, 'guard' => 1, 'tenant' => 1]);
            $texts = array_map(strval(...), array_filter($known, is_scalar(...)));
            return $texts === [] ? [] : $texts + ['type' => 'user'];
        }
        return array_filter([
            'type' => 'user',
            'id' => method_exists($who, 'getAuthIdentifier') ? (string) $who->getAuthIdentifier() : '',
            'name' => $this->nameOf($who),
            'guard' => $this->guardOf($who),
        ], fn (string $text) => $text !== '');
    }

    /** Eloquent's attributes as they are: an accessor might ask the database. */
    private function nameOf(object $user): string
    {
        $attributes = method_exists($user, 'getAttributes') ? $user->getAttributes() : null;
        foreach ($this->config['user_name'] as $key) {
            $value = $attributes === null ? ($user->{$key} ?? null) : ($attributes[$key] ?? null);
            if (is_scalar($value) && (string) $value !== '') {
                return (string) $value;
            }
        }
        return '';
    }

    private function guardOf(object $user): string
    {
        foreach ($this->guards === null ? [] : ($this->guards)() as $name => $guard) {
            if (method_exists($guard, 'hasUser') && $guard->hasUser() && $guard->user() === $user) {
                return (string) $name;
            }
        }
        return '';
    }

    /** The session's keyed hash, as auditq writes it; only where there is a key, and never the id. */
    private function sessionHash(): ?string
    {
        $key = $this->recorder->secrets->key;
        if ($key === null || ! $this->app->resolved('session')) {
            return null;
        }
        $session = $this->app->make('session');
        if (! $session->isStarted()) {
            return null;
        }
        return substr(hash_hmac('sha256', "auditq session v1\0" . $session->getId(), $key), 0, 32);
    }
}
