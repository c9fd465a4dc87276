use crate::event::System;

/// How a database reads SQL, as far as the lexer must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Not known: what most databases have in common.
    Common,
    Sqlite,
    Postgres,
    /// MariaDB too.
    Mysql,
}

impl From<System> for Dialect {
    fn from(system: System) -> Self {
        match system {
            System::Other => Self::Common,
            System::Sqlite => Self::Sqlite,
            System::Postgres => Self::Postgres,
            System::Mysql | System::Mariadb => Self::Mysql,
        }
    }
}

impl Dialect {
    pub(crate) const fn is_postgres(self) -> bool {
        matches!(self, Self::Postgres)
    }

    pub(crate) const fn is_mysql(self) -> bool {
        matches!(self, Self::Mysql)
    }

    /// `# …` to the end of the line.
    pub(crate) const fn hash_comments(self) -> bool {
        self.is_mysql()
    }

    /// `/* /* */ */` is one comment.
    pub(crate) const fn nested_comments(self) -> bool {
        self.is_postgres()
    }

    /// `'it\'s'`.
    pub(crate) const fn backslash_escapes(self) -> bool {
        self.is_mysql()
    }

    /// `[name]`.
    pub(crate) const fn bracket_quotes(self) -> bool {
        matches!(self, Self::Sqlite)
    }

    /// `$tag$ … $tag$`.
    pub(crate) const fn dollar_quotes(self) -> bool {
        self.is_postgres()
    }

    /// `@name` is a placeholder.
    pub(crate) const fn at_placeholders(self) -> bool {
        matches!(self, Self::Sqlite | Self::Common)
    }

    /// `"text"` is a name, but a literal where no such name exists.
    pub(crate) const fn quoted_names_may_be_text(self) -> bool {
        matches!(self, Self::Sqlite)
    }

    /// `$5` is a name like `:five`, numbered by its first appearance; also, by common drivers, the fifth binding.
    pub(crate) const fn dollar_numbers_are_names(self) -> bool {
        matches!(self, Self::Sqlite)
    }
}
