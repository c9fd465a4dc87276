<?php

use Auditq\Laravel\Handover\SpoolHandover;
use Auditq\Laravel\Message;
use Auditq\Laravel\Undelivered;

$folder = fn () => sys_get_temp_dir() . '/auditq-spool-' . bin2hex(random_bytes(6));
$spool = fn (string $dir, array $more = []) => new SpoolHandover($more + ['dir' => $dir, 'mode' => 0600, 'max_bytes' => 1 << 20, 'fsync' => true]);
$message = fn (string $payload = '{}') => new Message('7f2b1c1e-0d5b-4d43-9d6c-5f2c5a3a9a10', $payload);
$clear = function (string $dir): void {
    array_map(unlink(...), array_filter([...glob("$dir/inbox/*"), "$dir/inbox/.bytes"], is_file(...)));
    @rmdir("$dir/inbox");
    @rmdir($dir);
};
$refused = function (callable $what): string {
    try {
        $what();
    } catch (Undelivered $error) {
        return $error->getMessage();
    }
    throw new Exception('nothing was refused');
};

return [
    'a file is there whole, for its owner alone, under a name that sorts by time' => function () use ($folder, $spool, $message, $clear) {
        $dir = $folder();
        $spool($dir)->send($message('{"one":1}'));
        $files = array_map(basename(...), glob("$dir/inbox/*"));
        same(1, preg_match('/^\d{16}-7f2b1c1e-0d5b-4d43-9d6c-5f2c5a3a9a10\.json$/', $files[0] ?? ''));
        same('{"one":1}', file_get_contents("$dir/inbox/$files[0]"));
        same([0600, 0700], [fileperms("$dir/inbox/$files[0]") & 0777, fileperms("$dir/inbox") & 0777]);
        $clear($dir);
    },
    'a group may read it where the configuration says so' => function () use ($folder, $spool, $message, $clear) {
        $dir = $folder();
        $spool($dir, ['mode' => '0660'])->send($message());
        same([0660, 02770], [fileperms(glob("$dir/inbox/*.json")[0]) & 0777, fileperms("$dir/inbox") & 07777]);
        $clear($dir);
    },
    'what is over the limit is refused and leaves nothing' => function () use ($folder, $spool, $message, $clear, $refused) {
        $dir = $folder();
        $small = $spool($dir, ['max_bytes' => 100]);
        $small->send($message(str_repeat('x', 60)));
        touch("$dir/inbox/.bytes", time() - 60);
        $said = $refused(fn () => $small->send($message(str_repeat('x', 60))));
        same(true, str_contains($said, '60 bytes wait') && str_contains($said, 'auditq work'), $said);
        same(1, count(glob("$dir/inbox/*")));
        $clear($dir);
    },
    'a folder that cannot be made is said by name' => function () use ($spool, $message, $refused) {
        $said = $refused(fn () => $spool('/proc/nowhere')->send($message()));
        same(true, str_contains($said, '/proc/nowhere/inbox'), $said);
    },
    'a full disk is said, and leaves nothing behind' => function () use ($message, $refused) {
        $dir = getenv('AUDITQ_TEST_SMALL_DISK');
        if ($dir === false) {
            return;
        }
        $spool = new SpoolHandover(['dir' => $dir, 'mode' => 0600, 'max_bytes' => 1 << 30, 'fsync' => false]);
        $said = $refused(function () use ($spool, $message) {
            for ($i = 0; $i < 1000; $i++) {
                $spool->send($message(str_repeat('x', 10_000)));
            }
        });
        same(true, str_contains($said, 'is the disk full'), $said);
        same([], glob("$dir/inbox/*.tmp"));
    },
];
