<?php

use Auditq\Laravel\Secrets;

$secrets = fn (array $more = []) => new Secrets($more + ['names' => [], 'except' => [], 'key' => null]);
$places = fn (string $sql, string $system = 'mysql') => array_keys($secrets()->of($sql, $system)->places);
$text = fn (string $sql, string $system = 'mysql') => $secrets()->of($sql, $system)->sql;

return [
    'whole words of a name match, parts of words do not' => function () use ($secrets) {
        foreach (['password', 'PASSWORD', 'password_hash', 'userPassword', 'Password2', 'api_key', 'apiKey', 'APIKey', 'x-api-key', 'resetToken', 'cvv2', 'PIN_code', 'cardNumber', 'oauth2_token', '_secret_'] as $name) {
            same(true, $secrets()->matches($name), $name);
        }
        foreach (['tokenizer_count', 'spinning', 'pinned', 'secretary', 'key', 'api', 'card', 'number', '', '_', '42'] as $name) {
            same(false, $secrets()->matches($name), $name);
        }
    },
    'names are added and taken away' => function () use ($secrets) {
        $own = $secrets(['names' => ['iban'], 'except' => ['pin']]);
        same([true, false, true], [$own->matches('customer_iban'), $own->matches('pin'), $own->matches('token')]);
        same([0 => true], $own->of('select 1 where iban = ?', 'pgsql')->places);
    },
    'a binding is a secret by the column it is compared with or put into' => function () use ($places) {
        same([0], $places('select * from users where password = ? and id = ?'));
        same([1], $places('select * from users where id = ? and ? = lower(password)'));
        same([0], $places('update users set password = crypt(?, 4), name = ? where id = ?'));
        same([2], $places('insert into users (id, name, password) values (?, ?, ?)'));
        same([2, 5], $places('insert into `users` (`id`, `name`, `password`) values (?, ?, ?), (?, ?, ?)'));
        same([0, 1], $places('select * from t where token between ? and ? and id = ?'));
        same([0, 1, 2], $places('select * from t where api_key in (?, ?, ?) or id = ?'));
        same([1], $places('select * from users where id = (select ? from x) and token = ?'));
        same([0, 1], $places('insert into users (name, password) values (?)' . ' on duplicate key update password = ?'));
        same([], $places('select password from users where id = ?'));
        same([], $places('select * from users where id = ? and name = ?'));
        same([1], $places('select * from "users" where "id" = $1 and "reset_token" = $2', 'pgsql'));
    },
    'a row that is not as wide as its columns is a secret as a whole' => function () use ($places) {
        same([0, 1], $places('insert into users (id, name, password) values (?, ?)'));
    },
    'named bindings are secrets by their place and by their name' => function () use ($secrets) {
        $found = $secrets()->of('select * from users where x = :password and token = :t and id = :id', 'sqlite');
        same(['password', 't'], array_keys($found->names));
        same(true, $found->hides(0, ':password'));
        same(false, $found->hides(2, 'id'));
    },
    'literals at secret places leave the text, others stay' => function () use ($text) {
        same("update users set password = '[redacted]' where name = 'alice'", $text("update users set password = 'hunter2' where name = 'alice'"));
        same("select 1 where token = '[redacted]' and id = 7", $text("select 1 where token = 'it''s \\' one' and id = 7"));
        same("alter user bob identified by '[redacted]'", $text("alter user bob identified by 'x'"));
        same("ALTER ROLE bob PASSWORD '[redacted]'", $text('ALTER ROLE bob PASSWORD $q$it\'s$q$', 'pgsql'));
        same("select 1 where pin = '[redacted]'", $text('select 1 where pin = 1234'));
        same('pragma key = ' . "'[redacted]'", $text("pragma key = 'k'", 'sqlite'));
        same("insert into t (a, secret) values (1, '[redacted]') -- 'kept'", $text("insert into t (a, secret) values (1, 'x') -- 'kept'"));
        same("select 'password' as label", $text("select 'password' as label"));
    },
    'a text that ends in the middle is read to its end' => function () use ($text) {
        same("update users set password = '[redacted]'", $text("update users set password = 'hunter2"));
        same('select (((((((((( password', $text('select (((((((((( password'));
        same(200_000 + strlen("update t set secret = '[redacted]' /* x */"), strlen($text('update t set secret = ' . "'a'" . ' /* ' . str_repeat('x', 200_001) . ' */')));
    },
    'a hidden value is of a kind, and under a key has the hash that auditq gives it' => function () use ($secrets) {
        same(['secret' => 'text'], $secrets()->hidden('hunter2'));
        same(['secret' => 'int'], $secrets()->hidden(7));
        // The same as in auditq-event/src/redact.rs.
        $keyed = $secrets(['key' => str_repeat('01', 32)]);
        same(['secret' => 'text', 'hmac' => '5a5ced2896194c31482c787bd26c9609'], $keyed->hidden('hunter2'));
        same("select 1 where pin = '[redacted:5a5ced2896194c31482c787bd26c9609]'", $keyed->of("select 1 where pin = 'hunter2'", 'mysql')->sql);
    },
    'an error quotes no secret, also when the database has cut it' => function () use ($secrets) {
        $found = $secrets()->of("insert into users (name, password) values (?, ?)", 'mysql');
        $error = fn (string $message, string $secret) => $secrets()->redactError($message, $found, ['alice', $secret]);
        same("Duplicate entry '[redacted]' for alice", $error("Duplicate entry 'hunter2' for alice", 'hunter2'));
        same("entry '[redacted]' for 12345", $error("entry '123' for 12345", '123'));
        $long = '0123456789012345678901234567890123456789';
        same("entry '[redacted]...'", $error("entry '0123456789012345678901234567890123...'", $long));
        same('nothing', $error('nothing', ''));
    },
];
