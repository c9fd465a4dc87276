use std::cell::RefCell;
use std::fmt::{self, Write};
use std::ops::Range;

use auditq::{System, Value};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo};
use sqlx::{Arguments, Describe, Either, Error, Executor, Pool, SqlStr, Sqlite};

use crate::database::{AuditedDatabase, Ready};

impl AuditedDatabase for Sqlite {
    const SYSTEM: System = System::Sqlite;

    fn name(pool: &Pool<Self>) -> String {
        pool.connect_options().get_filename().to_string_lossy().into_owned()
    }

    fn rows_affected(result: &SqliteQueryResult) -> u64 {
        result.rows_affected()
    }

    fn lend_values(arguments: &SqliteArguments, then: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>)) {
        lend(arguments, arguments.len(), then);
    }

    fn fetch_many<'e>(
        connection: &'e mut SqliteConnection,
        query: Ready<Self>,
    ) -> BoxStream<'e, Result<Either<SqliteQueryResult, SqliteRow>, Error>> {
        connection.fetch_many(query)
    }

    fn fetch_optional<'e>(
        connection: &'e mut SqliteConnection,
        query: Ready<Self>,
    ) -> BoxFuture<'e, Result<Option<SqliteRow>, Error>> {
        connection.fetch_optional(query)
    }

    fn prepare_with<'e>(
        connection: &'e mut SqliteConnection,
        sql: SqlStr,
        parameters: &'e [SqliteTypeInfo],
    ) -> BoxFuture<'e, Result<SqliteStatement, Error>> {
        connection.prepare_with(sql, parameters)
    }

    fn describe<'e>(connection: &'e mut SqliteConnection, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Self>, Error>> {
        connection.describe(sql)
    }
}

thread_local! {
    static VALUES: RefCell<Values> = RefCell::default();
}

/// More capacity than this is given back.
const KEPT_BYTES: usize = 64 << 10;

/// Reads the values out of the arguments' `Debug` text, which is complete and typed, and the only public road to them
/// in sqlx 0.9. A test pins its form; where it is another one, the bindings are recorded as unreadable, and counted.
fn lend(arguments: &impl fmt::Debug, count: usize, then: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>)) {
    let lent = VALUES.try_with(|values| match values.try_borrow_mut() {
        Ok(mut values) => values.read(arguments, count, then),
        Err(_) => Values::default().read(arguments, count, then),
    });
    if lent.is_err() {
        // The thread is ending.
        Values::default().read(arguments, count, then);
    }
}

/// The values of one statement: texts and blobs lie one after the other in `bytes`.
#[derive(Default)]
struct Values {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

enum Item {
    Null,
    Int(i64),
    Double(f64),
    Text(Range<usize>),
    Blob(Range<usize>),
}

impl Values {
    fn read(
        &mut self,
        arguments: &impl fmt::Debug,
        count: usize,
        then: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>),
    ) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.items.clear();
        let mut parser = Parser { values: self, state: State::Start, word: Word::default() };
        let read = write!(parser, "{arguments:?}").is_ok() && matches!(parser.state, State::End);
        if read && self.items.len() == count {
            then(&mut self.items.iter().map(|item| item.value(&self.bytes)));
        } else {
            then(&mut std::iter::repeat_n(Value::Typed("unreadable", ""), count));
        }
    }
}

impl Item {
    fn value<'a>(&self, bytes: &'a [u8]) -> Value<'a> {
        match self {
            Self::Null => Value::Null,
            Self::Int(value) => Value::Int(*value),
            Self::Double(value) => Value::Float(*value),
            Self::Text(range) => Value::RawText(&bytes[range.clone()]),
            Self::Blob(range) => Value::Bytes(&bytes[range.clone()]),
        }
    }
}

/// A short word or number of the text, which may come in pieces.
#[derive(Default)]
struct Word {
    bytes: [u8; 32],
    len: usize,
}

impl Word {
    fn push(&mut self, byte: u8) -> fmt::Result {
        *self.bytes.get_mut(self.len).ok_or(fmt::Error)? = byte;
        self.len += 1;
        Ok(())
    }

    fn take(&mut self) -> Result<&str, fmt::Error> {
        let len = std::mem::take(&mut self.len);
        str::from_utf8(&self.bytes[..len]).map_err(|_| fmt::Error)
    }

    fn parse<T: std::str::FromStr>(&mut self) -> Result<T, fmt::Error> {
        self.take()?.parse().map_err(|_| fmt::Error)
    }
}

/// Where in the text the parser is.
#[derive(Clone, Copy)]
enum State {
    /// Before the list: `SqliteArguments { values: SqliteArgumentsBuffer(`.
    Start,
    /// In the name of a value's type, or between values.
    Name,
    Int,
    Double,
    /// Before a text's opening quote.
    Quote,
    Text {
        from: usize,
    },
    /// After a backslash.
    Escape {
        from: usize,
    },
    /// In `\u{…}`.
    Unicode {
        from: usize,
    },
    /// Before a blob's opening bracket.
    Bracket,
    Blob {
        from: usize,
    },
    /// After a value, before its closing parenthesis.
    Close,
    /// After the list.
    End,
}

struct Parser<'v> {
    values: &'v mut Values,
    state: State,
    word: Word,
}

impl Write for Parser<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            if let State::Text { .. } = self.state {
                let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
                if plain > 0 {
                    self.values.bytes.extend_from_slice(&rest[..plain]);
                    rest = &rest[plain..];
                    continue;
                }
            }
            self.state = self.step(byte)?;
            rest = after;
        }
        Ok(())
    }
}

impl Parser<'_> {
    /// Takes the next byte, and says where that leads; an error is a form that is not known.
    fn step(&mut self, byte: u8) -> Result<State, fmt::Error> {
        match self.state {
            State::Start => Ok(if byte == b'[' { State::Name } else { State::Start }),
            State::Name => self.name(byte),
            State::Int | State::Double => self.number(byte),
            State::Quote if byte == b'"' => Ok(State::Text { from: self.values.bytes.len() }),
            State::Bracket if byte == b'[' => Ok(State::Blob { from: self.values.bytes.len() }),
            State::Text { from } => Ok(self.text(byte, from)),
            State::Escape { from } => self.escape(byte, from),
            State::Unicode { from } => self.unicode(byte, from),
            State::Blob { from } => self.blob(byte, from),
            State::Close if byte == b')' => Ok(State::Name),
            State::End => Ok(State::End),
            State::Quote | State::Bracket | State::Close => Err(fmt::Error),
        }
    }

    fn name(&mut self, byte: u8) -> Result<State, fmt::Error> {
        match byte {
            b'(' => match self.word.take()? {
                "Int" | "Int64" => Ok(State::Int),
                "Double" => Ok(State::Double),
                "Text" | "TextSlice" => Ok(State::Quote),
                "Blob" => Ok(State::Bracket),
                _ => Err(fmt::Error),
            },
            b',' | b']' => {
                match self.word.take()? {
                    "" => {}
                    "Null" => self.values.items.push(Item::Null),
                    _ => return Err(fmt::Error),
                }
                Ok(if byte == b',' { State::Name } else { State::End })
            }
            b' ' => Ok(State::Name),
            _ => self.word.push(byte).map(|()| State::Name),
        }
    }

    fn number(&mut self, byte: u8) -> Result<State, fmt::Error> {
        if byte != b')' {
            self.word.push(byte)?;
            return Ok(self.state);
        }
        let item = match self.state {
            State::Int => Item::Int(self.word.parse()?),
            _ => Item::Double(self.word.parse()?),
        };
        self.values.items.push(item);
        Ok(State::Name)
    }

    fn text(&mut self, byte: u8, from: usize) -> State {
        match byte {
            b'\\' => State::Escape { from },
            b'"' => {
                self.values.items.push(Item::Text(from..self.values.bytes.len()));
                State::Close
            }
            _ => {
                self.values.bytes.push(byte);
                State::Text { from }
            }
        }
    }

    fn escape(&mut self, byte: u8, from: usize) -> Result<State, fmt::Error> {
        let byte = match byte {
            b'u' => return Ok(State::Unicode { from }),
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'0' => 0,
            b'"' | b'\\' | b'\'' => byte,
            _ => return Err(fmt::Error),
        };
        self.values.bytes.push(byte);
        Ok(State::Text { from })
    }

    fn unicode(&mut self, byte: u8, from: usize) -> Result<State, fmt::Error> {
        match byte {
            b'{' => {}
            b'}' => {
                let code = u32::from_str_radix(self.word.take()?, 16).map_err(|_| fmt::Error)?;
                let char = char::from_u32(code).ok_or(fmt::Error)?;
                self.values.bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(State::Text { from });
            }
            _ => self.word.push(byte)?,
        }
        Ok(State::Unicode { from })
    }

    fn blob(&mut self, byte: u8, from: usize) -> Result<State, fmt::Error> {
        match byte {
            b',' | b']' if self.word.len > 0 => {
                let byte = self.word.parse()?;
                self.values.bytes.push(byte);
            }
            b',' | b']' | b' ' => {}
            _ => self.word.push(byte)?,
        }
        if byte != b']' {
            return Ok(State::Blob { from });
        }
        self.values.items.push(Item::Blob(from..self.values.bytes.len()));
        Ok(State::Close)
    }
}
