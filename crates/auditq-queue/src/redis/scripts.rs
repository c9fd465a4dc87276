//! The scripts, each of which is one atomic step.

use std::sync::LazyLock;

use redis::Script;

macro_rules! scripts {
    ($($name:ident = $file:literal)+) => {
        $(
            pub(super) static $name: LazyLock<Script> =
                LazyLock::new(|| Script::new(concat!(include_str!("lua/common.lua"), include_str!($file))));
        )+
    };
}

scripts! {
    PUSH = "lua/push.lua"
    RESERVE = "lua/reserve.lua"
    EXTEND = "lua/extend.lua"
    DELETE = "lua/delete.lua"
    RELEASE = "lua/release.lua"
    BURY = "lua/bury.lua"
    FAILED = "lua/failed.lua"
    RETRY = "lua/retry.lua"
    FORGET = "lua/forget.lua"
    CLEAR = "lua/clear.lua"
    HELD = "lua/held.lua"
    IS_HELD = "lua/is_held.lua"
    PUT_BACK = "lua/put_back.lua"
    SIZES = "lua/sizes.lua"
}
