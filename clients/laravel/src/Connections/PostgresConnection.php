<?php

namespace Auditq\Laravel\Connections;

class PostgresConnection extends \Illuminate\Database\PostgresConnection
{
    use Records;
}
