<?php

/**
 * Tests of the parts that need no application: php tests/run.php
 *
 * Each file of tests/ that ends in Test.php returns tests by name.
 */
error_reporting(E_ALL & ~E_DEPRECATED);
// The framework, where Composer or Debian has put it; what needs it is left out elsewhere.
foreach ([__DIR__ . '/../vendor/autoload.php', '/usr/share/php/Illuminate/autoload.php'] as $framework) {
    if (is_file($framework)) {
        require $framework;
        break;
    }
}
spl_autoload_register(function (string $class): void {
    $file = __DIR__ . '/../src/' . str_replace(['Auditq\\Laravel\\', '\\'], ['', '/'], $class) . '.php';
    if (str_starts_with($class, 'Auditq\\Laravel\\') && is_file($file)) {
        require $file;
    }
});
set_error_handler(fn (int $level, string $message, string $file, int $line) => (error_reporting() & $level) === 0 ? false : throw new ErrorException($message, 0, $level, $file, $line));

function same(mixed $expected, mixed $actual, string $about = ''): void
{
    if ($expected !== $actual) {
        throw new Exception(trim("$about expected " . var_export($expected, true) . ', got ' . var_export($actual, true)));
    }
}

$failed = $passed = 0;
foreach (glob(__DIR__ . '/*Test.php') as $file) {
    foreach (require $file as $name => $test) {
        try {
            $test();
            $passed++;
        } catch (Throwable $error) {
            $failed++;
            echo 'FAILED ', basename($file, '.php'), ": $name: ", $error->getMessage(), ' (', basename($error->getFile()), ':', $error->getLine(), ")\n";
        }
    }
}
echo "$passed passed, $failed failed\n";
exit($failed === 0 && $passed > 0 ? 0 : 1);
