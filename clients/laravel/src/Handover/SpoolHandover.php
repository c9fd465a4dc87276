<?php

namespace Auditq\Laravel\Handover;

use Auditq\Laravel\Message;
use Auditq\Laravel\Undelivered;

/**
 * One file a request in the folder `inbox` of a spool; `auditq work` on the same host brings it into the queue.
 *
 * A file appears under its name whole or not at all, and names sort by time.
 */
final class SpoolHandover implements Handover
{
    /** For how many seconds a count of the bytes that wait is believed. */
    private const COUNT_SECONDS = 5;

    /** Keeps that count for all processes. */
    private const COUNT_FILE = '.bytes';

    private readonly string $folder;

    /** @param array{dir: string, mode: int|string, max_bytes: int, fsync: bool} $config */
    public function __construct(private readonly array $config)
    {
        $this->folder = rtrim($config['dir'], '/') . '/inbox';
    }

    public function send(Message $message): void
    {
        $this->makeFolder();
        $waiting = $this->bytesWaiting();
        if ($waiting + strlen($message->payload) > $this->config['max_bytes']) {
            throw new Undelivered("$waiting bytes wait in {$this->folder} already (spool.max_bytes); is auditq work running?");
        }
        $name = sprintf('%s/%016d-%s', $this->folder, (int) (microtime(true) * 1e6), $message->uuid);
        try {
            $this->write("$name.tmp", $message->payload);
            if (! @rename("$name.tmp", "$name.json")) {
                throw new Undelivered("cannot name $name.json");
            }
        } catch (Undelivered $error) {
            @unlink("$name.tmp");
            throw $error;
        }
    }

    public function name(): string
    {
        return "the spool {$this->folder}";
    }

    private function write(string $path, string $payload): void
    {
        $file = @fopen($path, 'x');
        if ($file === false) {
            throw new Undelivered("cannot make $path; let the user of PHP write in its folder");
        }
        @chmod($path, $this->mode());
        $written = @fwrite($file, $payload);
        $kept = $written === strlen($payload) && @fflush($file) && (! $this->config['fsync'] || @fsync($file));
        if (! @fclose($file) || ! $kept) {
            throw new Undelivered("cannot write $path; is the disk full?");
        }
    }

    /** A folder that others of the group write into, where the files are theirs too. */
    private function makeFolder(): void
    {
        if (is_dir($this->folder)) {
            return;
        }
        $mode = ($this->mode() & 0o070) !== 0 ? 0o2770 : 0o700;
        if (! @mkdir($this->folder, $mode, true) && ! is_dir($this->folder)) {
            throw new Undelivered("cannot make the folder {$this->folder}; make it, and let the user of PHP own it");
        }
        @chmod($this->folder, $mode);
    }

    private function mode(): int
    {
        $mode = $this->config['mode'];
        return (is_string($mode) ? (int) octdec($mode) : $mode) & 0o666;
    }

    /** Counted every few seconds, by whoever comes next. */
    private function bytesWaiting(): int
    {
        $file = "{$this->folder}/" . self::COUNT_FILE;
        clearstatcache(true, $file);
        $counted = @filemtime($file);
        if ($counted !== false && $counted > time() - self::COUNT_SECONDS) {
            return (int) @file_get_contents($file);
        }
        $bytes = 0;
        foreach (glob("{$this->folder}/*.json") ?: [] as $path) {
            $bytes += (int) @filesize($path);
        }
        @file_put_contents($file, (string) $bytes);
        @chmod($file, $this->mode());
        return $bytes;
    }
}
