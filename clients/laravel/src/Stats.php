<?php

namespace Auditq\Laravel;

/** Counts of this process. */
final class Stats
{
    /** Statements for which nobody was signed in. */
    public int $skipped = 0;

    /** Statements on tables that are ignored. */
    public int $ignored = 0;

    /** Statements that are on their way. */
    public int $handedOver = 0;

    /** Statements that nobody took. */
    public int $lost = 0;

    /** Errors that were kept from the application. */
    public int $troubles = 0;
}
