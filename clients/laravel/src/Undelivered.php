<?php

namespace Auditq\Laravel;

/** Statements could not be handed over. */
final class Undelivered extends \RuntimeException
{
}
