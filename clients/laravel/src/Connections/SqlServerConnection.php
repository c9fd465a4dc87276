<?php

namespace Auditq\Laravel\Connections;

class SqlServerConnection extends \Illuminate\Database\SqlServerConnection
{
    use Records;
}
