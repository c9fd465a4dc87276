//! The segments of a statement, how they enclose each other, and how secrecy spreads between them.

/// Which tokens of a statement stand at a secret place.
#[derive(Default)]
pub(crate) struct Segments {
    segments: Vec<Segment>,
    groups: Vec<Group>,
    /// For each token, its segment.
    of_token: Vec<u32>,
    /// True when a secret column's values cannot be told from the others.
    pub(crate) all_secret: bool,
}

/// What stands between two commas, keywords or parentheses.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    /// The segment around it.
    pub(crate) parent: u32,
    pub(crate) group: u32,
    /// A secret around it makes it secret.
    pub(crate) inherits: bool,
    /// A secret in it makes what is around it secret.
    pub(crate) raises: bool,
    pub(crate) secret: bool,
}

/// What one pair of parentheses, one `CASE` or the whole statement encloses.
#[derive(Clone, Copy, Default)]
pub(crate) struct Group {
    /// Holds conditions joined by `AND` or `OR`: a secret in one says nothing of what is outside.
    pub(crate) logical: bool,
    /// Holds nothing but values: a row of `VALUES`, a list after `IN`.
    pub(crate) values: bool,
    /// Each of its segments is secret.
    pub(crate) secret: bool,
}

impl Segments {
    pub(crate) fn is_secret(&self, token: usize) -> bool {
        self.all_secret || self.of_token.get(token).is_some_and(|&segment| self.segments[segment as usize].secret)
    }

    /// Tells whether only values can stand at a token's place.
    pub(crate) fn is_among_values(&self, token: usize) -> bool {
        let group = self.of_token.get(token).map(|&segment| self.segments[segment as usize].group);
        group.is_some_and(|group| self.groups[group as usize].values)
    }

    /// Adds a segment, after the one around it.
    pub(crate) fn add(&mut self, segment: Segment) -> u32 {
        self.segments.push(segment);
        index(self.segments.len() - 1)
    }

    pub(crate) fn add_group(&mut self) -> u32 {
        self.groups.push(Group::default());
        index(self.groups.len() - 1)
    }

    /// Puts the next token into a segment.
    pub(crate) fn push_token(&mut self, segment: u32) {
        self.of_token.push(segment);
    }

    pub(crate) fn segment(&mut self, at: u32) -> &mut Segment {
        &mut self.segments[at as usize]
    }

    pub(crate) fn group(&mut self, at: u32) -> &mut Group {
        &mut self.groups[at as usize]
    }

    /// Lets secrecy spread. A segment comes after the one around it, so one pass back and one forth reach everything.
    pub(crate) fn spread(&mut self) {
        for at in (1..self.segments.len()).rev() {
            let Segment { parent, group, raises, secret, .. } = self.segments[at];
            if secret && raises && !self.groups[group as usize].logical {
                self.segments[parent as usize].secret = true;
            }
        }
        for at in 0..self.segments.len() {
            let Segment { parent, group, inherits, .. } = self.segments[at];
            let around = inherits && self.segments[parent as usize].secret;
            self.segments[at].secret |= around || self.groups[group as usize].secret;
        }
    }
}

/// Narrows an index: a statement has fewer than 2³² tokens.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
