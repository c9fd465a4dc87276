<?php

namespace Auditq\Laravel\Connections;

class MySqlConnection extends \Illuminate\Database\MySqlConnection
{
    use Records;
}
