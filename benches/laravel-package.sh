#!/usr/bin/env bash
# What the audit log costs the caller of a query in a Laravel application: benches/laravel-package.sh FOLDER [QUERIES [ENGINES [ROUNDS]]]
#
# FOLDER is the application (copied; its databases get names of their own). On each engine, in one run and in turns:
#   off       no audit at all
#   listen    the application's own DB::listen, and a dispatched job a query
#   queue     clients/laravel, handing over to the application's queue
#   spool     clients/laravel, handing over to the spool's inbox
# QUERIES distinct queries each, ROUNDS times; the best round counts, because what else the machine does only adds to it.
# Prints a line of JSON an engine: microseconds a query for the caller on average (what a command hands over before its
# end, at 1,000 and at 2,000 queries, is in it), what handing over after its end takes a query besides, and the cost of
# the package as a part of that of DB::listen: (queue - off) / (listen - off).
# Servers are those of the tests, on this machine.
set -euo pipefail

original=${1:?"which application? its folder"}
queries=${2:-2000}
engines=${3:-sqlite mysql pgsql mysql+redis pgsql+redis}
rounds=${4:-5}
cd "$(dirname "$0")/.."
export AUDITQ_PACKAGE
AUDITQ_PACKAGE=$(realpath clients/laravel)
shop=$(mktemp -d /tmp/auditq-shop.XXXXXX)
name=auditq_bench_$$
export REDIS_PREFIX=${name}_

finish() {
  rm -rf "$shop"
  mariadb -h 127.0.0.1 -u root -e "DROP DATABASE IF EXISTS $name" 2>/dev/null || true
  psql -qw -h 127.0.0.1 -U postgres -c "DROP DATABASE IF EXISTS $name" 2>/dev/null || true
  redis-cli --raw keys "$name*" 2>/dev/null | xargs -r redis-cli del >/dev/null || true
}
trap finish EXIT

cp -r "$original/." "$shop"
chmod -R u+w "$shop"
sed -i "s/'database' => \$name,/'database' => env('DB_DATABASE', \$name),/" "$shop/config/database.php"
# Either provider, as AUDIT says.
sed -i "s/App.Providers.AppServiceProvider::class/(env('AUDIT') === 'package' ? Auditq\\\\Laravel\\\\AuditServiceProvider::class : App\\\\Providers\\\\AppServiceProvider::class)/" "$shop/config/app.php"
cat >>"$shop/bootstrap/autoload.php" <<'PHP'
spl_autoload_register(function (string $class): void {
    $file = str_replace(['Auditq\\Laravel\\', '\\'], [getenv('AUDITQ_PACKAGE') . '/src/', '/'], $class) . '.php';
    if (str_starts_with($class, 'Auditq\\Laravel\\') && is_file($file)) {
        require $file;
    }
});
PHP
cat >"$shop/config/auditq.php" <<'PHP'
<?php
return ['actor' => fn ($app) => $app->bound('audit.username') ? $app->make('audit.username') : null];
PHP
# The same as artisan, and how long it takes from the end of the command itself to the end of everything.
sed 's/^exit(\$status);$/fprintf(STDERR, "%d\\n", (hrtime(true) - $ended) \/ 1000); exit($status);/; s/^\$kernel = .*/$ended = 0; $app->booting(function () use ($app, \&$ended) { $app["events"]->listen(Illuminate\\Console\\Events\\CommandFinished::class, function () use (\&$ended) { $ended = hrtime(true); }); });\n&/' "$shop/artisan" >"$shop/timed"

# Microseconds a query for the caller, and a query at the end.
measure() {
  (cd "$shop" && php timed app:workload "$queries" --user=alice 2>"$shop/end") >"$shop/said"
  php -r '$said = json_decode(file_get_contents($argv[1])); printf("%.2f %.2f\n", $said->mean_us, (int) file_get_contents($argv[2]) / $said->queries);' "$shop/said" "$shop/end"
}
best() { sort -n | head -1; }

for engine in $engines; do
  rm -rf "$shop/storage" "$shop"/*.txt
  export QUEUE_CONNECTION=database CACHE_DRIVER=array DB_CONNECTION=${engine%+*} DB_DATABASE=$name DB_DIR=$shop/storage
  case $engine in
    *+redis) QUEUE_CONNECTION=redis ;;
  esac
  case $DB_CONNECTION in
    sqlite) unset DB_DATABASE; sed -i "s/env('DB_DIR', storage_path()) \. \"\/\$name.sqlite\"/env('DB_DIR') . \"\/\$name.sqlite\"/" "$shop/config/database.php" ;;
    mysql) mariadb -h 127.0.0.1 -u root -e "DROP DATABASE IF EXISTS $name; CREATE DATABASE $name" ;;
    pgsql) psql -qw -h 127.0.0.1 -U postgres -c "DROP DATABASE IF EXISTS $name" -c "CREATE DATABASE $name" 2>/dev/null ;;
  esac
  (cd "$shop" && AUDIT_LOG_ENABLED=false ./artisan migrate --force) >"$shop/made.log"
  for _ in $(seq "$rounds"); do
    AUDIT=own AUDIT_LOG_ENABLED=false measure >>"$shop/off.txt"
    AUDIT=own measure >>"$shop/listen.txt"
    AUDIT=package AUDITQ_HANDOVER=queue measure >>"$shop/queue.txt"
    AUDIT=package AUDITQ_HANDOVER=spool AUDITQ_SPOOL_DIR=$shop/spool measure >>"$shop/spool.txt"
  done
  [ ! -e "$shop/storage/logs/laravel.log" ] || { echo "error: something was not handed over" >&2; cat "$shop/storage/logs/laravel.log" >&2; exit 1; }
  for way in off listen queue spool; do
    declare "$way=$(cut -d' ' -f1 "$shop/$way.txt" | best)" "${way}_end=$(cut -d' ' -f2 "$shop/$way.txt" | best)"
  done
  awk -v engine="$engine" -v queries="$queries" -v off="$off" -v listen="$listen" -v queue="$queue" -v spool="$spool" \
    -v queue_end="$queue_end" -v spool_end="$spool_end" -v off_end="$off_end" 'BEGIN {
    printf "{\"engine\":\"%s\",\"queries\":%d,\"off_us\":%.1f,\"listen_us\":%.1f,\"queue_us\":%.1f,\"spool_us\":%.1f,\"queue_after_us\":%.1f,\"spool_after_us\":%.1f,\"queue_ratio\":%.3f,\"spool_ratio\":%.3f}\n",
      engine, queries, off, listen, queue, spool, queue_end - off_end, spool_end - off_end, (queue - off) / (listen - off), (spool - off) / (listen - off) }'
done
