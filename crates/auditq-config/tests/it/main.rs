//! The configuration as a user writes it: a file, some variables, and what comes of them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use auditq_config::{Cache, Config, ConfigError, Duplicates, Durability, WhenFull};

const NOTHING: [(&str, &str); 0] = [];

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auditq.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let (_dir, path) = file(text);
    Config::load(Some(&path), variables.iter().copied())
}

fn error_of(text: &str, variables: &[(&str, &str)]) -> String {
    load(text, variables).unwrap_err().to_string()
}

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.queue.name, "audit-logs");
    assert_eq!(config.queue.url.file(), PathBuf::from("auditq.db"));
    assert_eq!(config.store.url.file(), PathBuf::from("auditq.db"));
    assert_eq!(config.spool.dir, PathBuf::from("auditq-spool"));
    assert_eq!((config.worker.tries, config.worker.timeout, config.worker.max_exceptions), (3, 30, 3));
    assert_eq!((config.capture.ttl, config.capture.enabled), (300, true));
    assert_eq!(config.capture.duplicates, Duplicates::Collapse);
    assert_eq!(config.spool.when_full, WhenFull::DropNewest);
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "[queue]\nname = 'from-file'\n[capture]\nttl = 7\n[spool]\ndurability = 'process'\n";
    let variables = [
        ("QUEUE_NAME", "from-env"),
        ("AUDIT_LOG_ENABLED", "false"),
        ("AUDIT_LOG_TTL", "60"),
        ("AUDITQ_SPOOL_DIR", "/tmp/elsewhere"),
        ("AUDITQ_DURABILITY", "fsync"),
        ("AUDITQ_STORE_URL", "sqlite:///srv/audit.db"),
    ];
    let config = load(text, &variables).unwrap();
    assert_eq!(config.queue.name, "from-env");
    assert!(!config.capture.enabled);
    assert_eq!(config.capture.ttl, 60);
    assert_eq!(config.spool.dir, PathBuf::from("/tmp/elsewhere"));
    assert_eq!(config.spool.durability, Durability::Fsync);
    assert_eq!(config.store.url.file(), PathBuf::from("/srv/audit.db"));
}

#[test]
fn an_unknown_key_is_an_error_that_names_key_file_and_line() {
    let message = error_of("[worker]\ntries = 3\ntimeuot = 10\n", &[]);
    assert!(message.contains("auditq.toml, line 3"), "{message}");
    assert!(message.contains("unknown key `timeuot`") && message.contains("`timeout`"), "{message}");
}

#[test]
fn an_unknown_variable_of_ours_is_an_error_that_names_the_known_ones() {
    let message = error_of("", &[("AUDITQ_STROE_URL", "sqlite:a.db")]);
    assert!(message.contains("AUDITQ_STROE_URL") && message.contains("AUDITQ_STORE_URL"), "{message}");
}

#[test]
fn a_retry_after_within_the_timeout_is_refused() {
    let message = error_of("[queue]\nretry_after = 30\n", &[]);
    assert!(message.contains("queue.retry_after") && message.contains("worker.timeout"), "{message}");
    assert_eq!(load("[queue]\nretry_after = 300\n", &[]).unwrap().queue.retry_after_seconds(), 300);
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    for (text, key) in [
        ("[worker]\nworkers = 0\n", "worker.workers"),
        ("[worker]\ntimeout = 0\n", "worker.timeout"),
        ("[worker]\nsleep = -1.0\n", "worker.sleep"),
        ("[worker]\nmessage_events = 100000\n", "worker.message_events"),
        ("[spool]\nsegment_bytes = 1\n", "spool.segment_bytes"),
        ("[spool]\nmax_bytes = 70000\n", "spool.max_bytes"),
    ] {
        let message = error_of(text, &[]);
        assert!(message.contains(key), "{text}: {message}");
    }
}

#[test]
fn a_file_that_is_not_toml_and_a_named_file_that_is_missing_are_errors() {
    let message = error_of("[worker\n", &[]);
    assert!(message.contains("line 1"), "{message}");
    let missing = Config::load(Some(std::path::Path::new("/nonexistent/auditq.toml")), NOTHING).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/auditq.toml"), "{missing}");
}

#[test]
fn a_laravel_connection_that_says_no_place_asks_for_the_url() {
    let message = error_of("", &[("QUEUE_CONNECTION", "redis")]);
    assert!(message.contains("AUDITQ_QUEUE_URL"), "{message}");
    assert!(load("", &[("QUEUE_CONNECTION", "database")]).is_ok());
}

#[test]
fn booleans_are_read_as_a_dotenv_file_writes_them() {
    for (text, expected) in [("true", true), ("(false)", false), ("ON", true), ("0", false)] {
        assert_eq!(load("", &[("AUDIT_LOG_ENABLED", text)]).unwrap().capture.enabled, expected, "{text}");
    }
    assert!(error_of("", &[("AUDIT_LOG_ENABLED", "maybe")]).contains("AUDIT_LOG_ENABLED"));
}

#[test]
fn the_redaction_key_is_checked_and_never_shown() {
    let key = "ab".repeat(32);
    let config = load("", &[("AUDITQ_REDACTION_KEY", &key)]).unwrap();
    assert_eq!(config.capture.redact.key.as_ref().unwrap().expose(), key);
    assert!(!format!("{config:?}").contains(&key));
    let message = error_of("", &[("AUDITQ_REDACTION_KEY", "hunter2")]);
    assert!(message.contains("64 hexadecimal") && !message.contains("hunter2"), "{message}");
}

#[test]
fn a_laravel_application_says_what_it_calls_things() {
    let text = "[laravel]\njobs = ['App\\Jobs\\Audit']\nproperty = 'payload.query'\ntimezone = 'Europe/Berlin'\n\
                [laravel.map]\nsql = 'statement'\nusername = ['login', 'email']\nip = []\n";
    let keys = [("APP_KEY", "base64:one"), ("APP_PREVIOUS_KEYS", "base64:two, base64:three,")];
    let laravel = load(text, &keys).unwrap().laravel;
    assert_eq!(
        (laravel.jobs, laravel.property.as_deref()),
        (vec!["App\\Jobs\\Audit".to_owned()], Some("payload.query"))
    );
    assert_eq!(laravel.timezone, "Europe/Berlin");
    assert_eq!(laravel.map["sql"], ["statement"]);
    assert_eq!(laravel.map["username"], ["login", "email"]);
    assert!(laravel.map["ip"].is_empty());
    assert_eq!(
        laravel.keys.iter().map(auditq_config::Secret::expose).collect::<Vec<_>>(),
        ["base64:one", "base64:two", "base64:three"]
    );
    assert!(!format!("{:?}", laravel.keys).contains("one"));
}

#[test]
fn a_part_that_no_event_has_is_an_error_with_its_line() {
    let error = error_of("[laravel.map]\nquery = 'sql'\n", &[]);
    assert!(
        error.contains("auditq.toml, line 2") && error.contains("unknown key `query`, expected one of `sql`"),
        "{error}"
    );
    let error = error_of("[laravel.map]\nsql = 5\n", &[]);
    assert!(error.contains("a name or a list of names"), "{error}");
    assert!(error_of("[laravel]\napp_key = 'x'\n", &[]).contains("unknown key `app_key`"));
}

/// In its `config/cache.php`, where that says it in plain text; what `env()` takes is in its `.env`.
#[test]
fn the_cache_of_an_application_is_found_where_its_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("config")).unwrap();
    std::fs::write(folder.path().join("artisan"), "").unwrap();
    let cache = |config: &str, env: &str| {
        std::fs::write(folder.path().join("config/cache.php"), config).unwrap();
        std::fs::write(folder.path().join(".env"), format!("REDIS_PREFIX=p_\nQUEUE_CONNECTION=database\n{env}"))
            .unwrap();
        let dir = folder.path().to_str().unwrap();
        let application = load("", &[("AUDITQ_LARAVEL", dir)]).unwrap().application.unwrap();
        (application.cache, application.cache_prefix)
    };
    let shared = "'prefix' => 'shop', 'redis' => ['driver' => 'redis', 'connection' => 'default']";
    let (place, prefix) = cache(shared, "CACHE_STORE=redis\n");
    assert!(matches!(&place, Cache::Redis(url) if url.to_string().contains("6379/0?prefix=p_")), "{place:?}");
    assert_eq!(prefix, "shop");
    let own = "'prefix' => env('CACHE_PREFIX', Str::slug(env('APP_NAME'), '_').'_cache_'), \
               ['driver' => 'redis', 'connection' => env('REDIS_CACHE_CONNECTION', 'cache')]";
    let (place, prefix) = cache(own, "CACHE_STORE=redis\n");
    assert!(matches!(&place, Cache::Redis(url) if url.to_string().contains("6379/1?prefix=p_")), "{place:?}");
    assert_eq!(prefix, "laravel_cache_");
    assert_eq!(cache(own, "CACHE_STORE=array\nCACHE_PREFIX=x\n"), (Cache::Unseen("array".to_owned()), "x".to_owned()));
    let (place, _) = cache(own, "");
    assert_eq!(place, Cache::Files(folder.path().join("storage/framework/cache/data")));
}

/// A new application's files, as Laravel 11 and later make them, or none at all: then the framework's own count.
#[test]
fn what_an_application_leaves_out_the_framework_says() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let write = |file: &str, text: &str| {
        let file = folder.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    let application = || load("", &[("AUDITQ_LARAVEL", dir)]).unwrap().application.unwrap();
    write("artisan", "");
    write(".env", "APP_NAME=\"My Shop\"\nDB_CONNECTION=sqlite\nQUEUE_CONNECTION=redis\n");
    let without = application();
    assert!(matches!(&without.cache, Cache::Database(url) if url.to_string().contains("database.sqlite")));
    assert_eq!(without.cache_prefix, "my-shop-cache-");

    let cache = "'default' => env('CACHE_STORE', 'redis'), 'stores' => ['redis' => ['driver' => 'redis', 'connection' \
                 => env('REDIS_CACHE_CONNECTION', 'cache'),]], 'prefix' => Str::slug((string) env('APP_NAME')).'-cache-'";
    write("vendor/laravel/framework/config/cache.php", cache);
    write("vendor/laravel/framework/config/database.php", "'prefix' => env('REDIS_PREFIX', $slug.'-database-')");
    let framework = application();
    assert!(
        matches!(&framework.cache, Cache::Redis(url) if url.to_string().contains("6379/1?prefix=my-shop-database-")),
        "{:?}",
        framework.cache
    );
    assert!(framework.queue_url.to_string().contains("6379/0?prefix=my-shop-database-"), "{}", framework.queue_url);
    write("config/cache.php", "'default' => env('CACHE_DRIVER', 'file'), 'prefix' => $slug.'_cache_'");
    write("config/database.php", "'prefix' => env('REDIS_PREFIX', $slug.'_database_')");
    let own = application();
    assert!(matches!(own.cache, Cache::Files(_)), "{:?}", own.cache);
    assert_eq!(own.cache_prefix, "my_shop_cache_");
    assert!(own.queue_url.to_string().contains("prefix=my_shop_database_"), "{}", own.queue_url);
}

/// A store of which only the application knows where it is, is none that is looked into somewhere else.
#[test]
fn a_cache_on_a_connection_of_its_own_is_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("artisan"), "").unwrap();
    let application = |env: &str| {
        std::fs::write(folder.path().join(".env"), format!("DB_CONNECTION=mysql\nQUEUE_CONNECTION=database\n{env}"))
            .unwrap();
        load("", &[("AUDITQ_LARAVEL", folder.path().to_str().unwrap())]).unwrap().application.unwrap()
    };
    assert!(matches!(application("DB_CACHE_CONNECTION=mysql\n").cache, Cache::Database(_)));
    for elsewhere in ["DB_CACHE_CONNECTION=other\n", "DB_CACHE_TABLE=cached\n"] {
        let cache = application(elsewhere).cache;
        assert!(matches!(&cache, Cache::Unseen(store) if store.starts_with("database, ")), "{cache:?}");
    }
    let redis =
        |connection: &str| application(&format!("CACHE_STORE=redis\nREDIS_CACHE_CONNECTION={connection}\n")).cache;
    assert!(matches!(redis("default"), Cache::Redis(url) if url.to_string().contains("6379/0")));
    assert!(matches!(redis("cache"), Cache::Redis(url) if url.to_string().contains("6379/1")));
    assert!(matches!(redis("sessions"), Cache::Unseen(_)));

    assert_eq!(application("").maintenance, None);
    let down = application("CACHE_STORE=file\nAPP_MAINTENANCE_DRIVER=cache\n");
    assert_eq!(down.maintenance, Some(down.cache));
    let down = application("CACHE_STORE=file\nAPP_MAINTENANCE_DRIVER=cache\nAPP_MAINTENANCE_STORE=database\n");
    assert!(matches!(down.maintenance, Some(Cache::Database(_))), "{:?}", down.maintenance);
}

/// As `php artisan config:cache` writes them; `.env` and variables say something else, which Laravel does not read then either.
#[test]
fn cached_settings_count_instead_of_env_and_every_connection_is_known() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("artisan"), "").unwrap();
    std::fs::write(folder.path().join(".env"), "DB_CONNECTION=sqlite\nQUEUE_CONNECTION=sync\nQUEUE_NAME=audited\n")
        .unwrap();
    std::fs::create_dir_all(folder.path().join("bootstrap/cache")).unwrap();
    let write = |queue: &str, store: &str, more: &str| {
        let text = format!(
            "<?php return array (
  'app' => array ( 'key' => 'base64:a', 'previous_keys' => array ( 0 => 'b', ), 'timezone' => 'Asia/Tokyo',
    'maintenance' => array ( 'driver' => 'cache', 'store' => 'shared', ), ),
  'cache' => array ( 'default' => '{store}', 'prefix' => 'shop_', 'stores' => array (
    'shared' => array ( 'driver' => 'redis', 'connection' => 'cache', ),
    'kept' => array ( 'driver' => 'database', 'connection' => 'log', 'table' => 'cache', ),
    'here' => array ( 'driver' => 'file', 'path' => '/var/cache/shop', 'prefix' => 'files_', ), 'none' => array ( 'driver' => 'array', ),
    'many' => array ( 'driver' => 'redis', 'connection' => 'cluster', ), ), ),
  'database' => array ( 'default' => 'shop', 'connections' => array (
    'shop' => array ( 'driver' => 'mariadb', 'host' => 'db', 'port' => '3307', 'database' => 'shop', 'username' => 'u',
      'password' => 'p\\'w', 'unix_socket' => '', 'prefix' => '', 'options' => array ( 1009 => '/ca.pem', ), ),
    'log' => array ( 'driver' => 'pgsql', 'url' => NULL, 'host' => 'pg', 'port' => 5432, 'database' => 'log', 'username' => 'w', ), ),
    'redis' => array ( 'client' => 'phpredis', 'options' => array ( 'prefix' => 'shop_database_', ),
      'queue' => array ( 'url' => NULL, 'host' => 'r1', 'port' => '6380', 'database' => '4', ),
      'cache' => array ( 'host' => 'r2', 'port' => '6379', 'database' => '1', 'prefix' => 'own_', ), ), ),
  'queue' => array ( 'default' => '{queue}', 'connections' => array (
    'audits' => array ( 'driver' => 'redis', 'connection' => 'queue', 'retry_after' => 300, ),
    'jobs' => array ( 'driver' => 'database', 'connection' => 'log', 'table' => 'jobs', 'retry_after' => 120, ),
    'home' => array ( 'driver' => 'database', 'connection' => NULL, 'table' => 'jobs', ),
    'far' => array ( 'driver' => 'redis', 'connection' => 'cluster', ), 'sync' => array ( 'driver' => 'sync', ), ), ){more},
);
"
        );
        std::fs::write(folder.path().join("bootstrap/cache/config.php"), text).unwrap();
    };
    let laravel = [("AUDITQ_LARAVEL", folder.path().to_str().unwrap()), ("DB_HOST", "elsewhere")];
    let loaded = || load("", &laravel).unwrap();

    write("audits", "here", "");
    let config = loaded();
    let application = config.application.unwrap();
    assert_eq!(config.queue.url.with_password(), "redis://r1:6380/4?prefix=shop_database_");
    assert_eq!((application.connection.as_str(), config.queue.retry_after), ("audits", Some(300)));
    assert_eq!((config.queue.name.as_str(), config.laravel.timezone.as_str()), ("audited", "Asia/Tokyo"));
    let keys: Vec<_> = config.laravel.keys.iter().map(auditq_config::Secret::expose).collect();
    assert_eq!(keys, ["base64:a", "b"]);
    let shop = "mysql://u:p%27w@db:3307/shop?time-zone=server&ssl-mode=verify_ca&ssl-ca=%2Fca.pem";
    assert_eq!(config.store.url.with_password(), shop);
    assert_eq!(
        (application.cache, application.cache_prefix.as_str()),
        (Cache::Files("/var/cache/shop".into()), "files_")
    );
    assert!(
        matches!(application.maintenance, Some(Cache::Redis(url)) if url.to_string().ends_with("r2:6379/1?prefix=own_"))
    );
    assert!(application.found[0].contains("bootstrap/cache/config.php"), "{:?}", application.found);

    write("jobs", "kept", "");
    let config = loaded();
    assert_eq!(config.queue.url.with_password(), "postgres://w@pg:5432/log");
    assert_eq!((config.queue.connection.as_str(), config.queue.retry_after), ("jobs", Some(120)));
    assert!(
        matches!(config.application.unwrap().cache, Cache::Database(url) if url.to_string().contains("pg:5432/log"))
    );

    write("home", "none", "");
    let config = loaded();
    assert_eq!((config.queue.url.with_password(), config.queue.retry_after), (shop, Some(90)));
    let application = config.application.unwrap();
    assert_eq!((application.cache, application.cache_prefix.as_str()), (Cache::Unseen("none".to_owned()), "shop_"));

    write("home", "many", "");
    let cache = loaded().application.unwrap().cache;
    assert!(matches!(&cache, Cache::Unseen(store) if store.starts_with("many, ")), "{cache:?}");

    let error = || load("", &laravel).unwrap_err().to_string();
    write("far", "here", "");
    assert!(error().contains("has no connection \"cluster\" to a single Redis server"), "{}", error());
    write("sync", "here", "");
    assert!(
        error().contains("bootstrap/cache/config.php: has the queue connection \"sync\" with the driver \"sync\""),
        "{}",
        error()
    );
    write("home", "here", ", 'secret' => $password");
    assert!(
        error().contains("line 20: is not what `php artisan config:cache` writes") && !error().contains("$password"),
        "{}",
        error()
    );
}

#[test]
fn jobs_on_a_connection_of_their_own_need_their_url() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("artisan"), "").unwrap();
    let laravel = ("AUDITQ_LARAVEL", folder.path().to_str().unwrap());
    let write = |env: &str| std::fs::write(folder.path().join(".env"), format!("DB_CONNECTION=mysql\n{env}")).unwrap();
    write("QUEUE_CONNECTION=database\nDB_QUEUE_CONNECTION=mysql\n");
    load("", &[laravel]).unwrap();
    write("QUEUE_CONNECTION=database\nDB_QUEUE_CONNECTION=jobs\n");
    let error = error_of("", &[laravel]);
    assert!(error.contains("DB_QUEUE_CONNECTION is \"jobs\"") && error.contains("queue.url"), "{error}");
    load("[queue]\nurl = 'mysql://127.0.0.1/jobs'\n", &[laravel]).unwrap();
    load("", &[laravel, ("AUDITQ_QUEUE_URL", "mysql://127.0.0.1/jobs")]).unwrap();
    write("QUEUE_CONNECTION=redis\nREDIS_QUEUE_CONNECTION=cache\n");
    assert!(load("", &[laravel]).unwrap().queue.url.to_string().contains("6379/1"));
    write("QUEUE_CONNECTION=redis\nREDIS_QUEUE_CONNECTION=jobs\n");
    assert!(error_of("", &[laravel]).contains("REDIS_QUEUE_CONNECTION is \"jobs\""));
}

#[test]
fn more_workers_take_jobs_from_a_database_server_unless_their_number_is_said() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("artisan"), "").unwrap();
    let laravel = ("AUDITQ_LARAVEL", folder.path().to_str().unwrap());
    let workers = |text: &str, env: &str| {
        std::fs::write(folder.path().join(".env"), env).unwrap();
        load(text, &[laravel]).unwrap().worker.workers
    };
    assert_eq!(workers("", "DB_CONNECTION=mysql\nQUEUE_CONNECTION=database\n"), 4);
    assert_eq!(workers("", "DB_CONNECTION=pgsql\nQUEUE_CONNECTION=database\n"), 4);
    assert_eq!(workers("", "DB_CONNECTION=mysql\nQUEUE_CONNECTION=redis\n"), 2);
    assert_eq!(workers("", "DB_CONNECTION=sqlite\nDB_DATABASE=a.sqlite\nQUEUE_CONNECTION=database\n"), 2);
    assert_eq!(workers("[worker]\nworkers = 1\n", "DB_CONNECTION=mysql\nQUEUE_CONNECTION=database\n"), 1);
}

/// In its `config/app.php`; of a variable that it does not ask for its `.env` says nothing.
#[test]
fn the_zone_of_an_application_is_the_one_that_it_uses() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("config")).unwrap();
    std::fs::write(folder.path().join("artisan"), "").unwrap();
    let dir = folder.path().to_str().unwrap();
    let zone = |config: &str, env: &str, settings: &str| {
        std::fs::write(folder.path().join("config/app.php"), format!("<?php return ['name' => 'shop', {config}];"))
            .unwrap();
        std::fs::write(folder.path().join(".env"), format!("QUEUE_CONNECTION=database\n{env}")).unwrap();
        load(settings, &[("AUDITQ_LARAVEL", dir)]).unwrap().laravel.timezone
    };
    let (fixed, asked) = ("'timezone' => 'Europe/Berlin'", "'timezone' => env('APP_TIMEZONE', 'Asia/Tokyo')");
    let variable = "APP_TIMEZONE=America/New_York\n";
    for (config, env, expected) in [
        ("", "", "UTC"),
        ("", variable, "America/New_York"),
        (fixed, "", "Europe/Berlin"),
        (fixed, variable, "Europe/Berlin"),
        (asked, "", "Asia/Tokyo"),
        (asked, variable, "America/New_York"),
        ("'timezone' => config('shop.zone')", variable, "America/New_York"),
    ] {
        assert_eq!(zone(config, env, ""), expected, "{config} {env}");
    }
    assert_eq!(zone(fixed, variable, "[laravel]\ntimezone = 'Asia/Kathmandu'\n"), "Asia/Kathmandu");
    std::fs::remove_file(folder.path().join("config/app.php")).unwrap();
    let application = load("", &[("AUDITQ_LARAVEL", dir)]).unwrap().application.unwrap();
    assert!(
        application.found.contains(&"times: America/New_York (APP_TIMEZONE)".to_owned()),
        "{:?}",
        application.found
    );
}
