<?php

namespace Auditq\Laravel\Connections;

class MariaDbConnection extends \Illuminate\Database\MariaDbConnection
{
    use Records;
}
