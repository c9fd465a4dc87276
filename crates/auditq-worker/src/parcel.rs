//! Packs records of a spool into messages.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auditq_event::{Gap, Message, ProducerLabel, Record, Route};
use auditq_queue::{MessageId, NewMessage, QueueName};
use auditq_spool::{Chunk, GapReason, Reader};
use bytes::Bytes;

/// Bytes of records in one message at the most, unless a single record is larger.
const MESSAGE_BYTES: usize = 1 << 20;

/// Records that go to the same queue at the same time.
struct Group<'a> {
    route: Option<Route>,
    records: Vec<(u64, &'a [u8])>,
    bytes: usize,
}

/// Packs a chunk into messages, in order, gaps among the records.
pub(crate) fn pack(reader: &Reader, chunk: &Chunk, queue: &QueueName, events_max: usize) -> Vec<NewMessage> {
    let producer_id = *reader.producer_id().as_bytes();
    // A label that is damaged costs the names of application and host, not the events.
    let label = ProducerLabel::decode(reader.label()).unwrap_or_default();
    let label = ProducerLabel { producer_id, ..label };
    let gaps: Vec<(u64, Vec<u8>)> = chunk.gaps().iter().map(|gap| (gap.number, encode_gap(gap))).collect();

    let mut messages = Vec::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    let records = chunk.records().map(|record| (record.seq, record.payload));
    for (seq, payload) in records.chain(gaps.iter().map(|(number, payload)| (*number, payload.as_slice()))) {
        let route = auditq_event::route_of(payload);
        let group = match groups.iter_mut().position(|group| group.route == route) {
            Some(index) => &mut groups[index],
            None => {
                groups.push(Group { route, records: Vec::with_capacity(events_max), bytes: 0 });
                let last = groups.len() - 1;
                &mut groups[last]
            }
        };
        if group.is_full(payload.len(), events_max) {
            messages.push(group.take_message(&label, queue));
        }
        group.bytes += payload.len();
        group.records.push((seq, payload));
    }
    messages.extend(groups.iter_mut().map(|group| group.take_message(&label, queue)));
    messages
}

impl Group<'_> {
    fn is_full(&self, more: usize, events_max: usize) -> bool {
        !self.records.is_empty() && (self.records.len() >= events_max || self.bytes + more > MESSAGE_BYTES)
    }

    fn take_message(&mut self, label: &ProducerLabel, queue: &QueueName) -> NewMessage {
        let id = Message::uuid_of(label, &self.records);
        let payload = Message::build(label, &self.records);
        self.records.clear();
        self.bytes = 0;
        let route = self.route.as_ref();
        // A queue name that cannot be one must not cost the event.
        let named = route.and_then(|route| QueueName::new(route.queue.as_deref()?).ok());
        NewMessage {
            id: MessageId::new(id),
            queue: named.unwrap_or_else(|| queue.clone()),
            payload: Bytes::from(payload),
            delay: route.map_or(Duration::ZERO, |route| Duration::from_millis(route.delay_ms)),
        }
    }
}

fn encode_gap(gap: &auditq_spool::Gap) -> Vec<u8> {
    // Where the spool knows no time, 0 stands for the time of its identity, so that a gap found twice is stored once.
    let (first_at, last_at) = match gap.reason {
        GapReason::DroppedFull { first_at_us, last_at_us } => (to_i64(first_at_us), to_i64(last_at_us)),
        _ => (0, now_us()),
    };
    Record::Gap(Gap { first_at, last_at, lost: gap.records, reason: describe(&gap.reason) }).encode()
}

/// Says what a gap is, for people.
pub(crate) fn describe(reason: &GapReason) -> String {
    match reason {
        GapReason::DroppedFull { .. } => "the spool was full".to_owned(),
        GapReason::Torn { segment, offset, bytes } => {
            format!("the process was killed while it recorded (segment {segment}, offset {offset}, {bytes} bytes)")
        }
        GapReason::Corrupt { segment, offset, bytes } => {
            format!("damaged on the disk (segment {segment}, offset {offset}, {bytes} bytes)")
        }
        GapReason::Missing { before_segment } => format!("segment files are gone (before segment {before_segment})"),
        _ => "records are missing".to_owned(),
    }
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
