<?php

namespace Auditq\Laravel\Connections;

class SQLiteConnection extends \Illuminate\Database\SQLiteConnection
{
    use Records;
}
