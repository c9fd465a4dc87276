<?php

namespace Auditq\Laravel\Handover;

use Auditq\Laravel\Message;

/** Keeps nothing: for tests of an application. */
final class NullHandover implements Handover
{
    public function send(Message $message): void
    {
    }

    public function name(): string
    {
        return 'nowhere';
    }
}
