<?php

namespace Auditq\Laravel\Handover;

use Auditq\Laravel\Message;

/** A way to auditq. */
interface Handover
{
    /**
     * Brings a message on its way; when this returns, the message is kept there.
     *
     * @throws \Throwable when it is not, or nobody knows: it may be sent again, under the same identity
     */
    public function send(Message $message): void;

    /** As it stands in the log. */
    public function name(): string;
}
