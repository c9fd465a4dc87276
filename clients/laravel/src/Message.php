<?php

namespace Auditq\Laravel;

/** A payload on its way, and the identity under which it is known wherever it goes. */
final class Message
{
    public function __construct(public readonly string $uuid, public readonly string $payload)
    {
    }
}
