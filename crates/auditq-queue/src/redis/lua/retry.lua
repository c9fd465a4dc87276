-- Puts failed messages of one queue back as new. KEYS: list, delayed, notify, ids, seq, failed, payloads, all, of the queue
-- ARGV: clock, queue; of each: id, number. Returns how many.
local now, moved = clock(ARGV[1]), 0
begin_when_full(KEYS[8])
make_due_ready(KEYS[2], KEYS[1], now)
for at = 3, #ARGV, 2 do
  local id = ARGV[at]
  local number, member = redis.call('ZSCORE', KEYS[9], id), redis.call('HGET', KEYS[7], id)
  local message = member and read(member)
  if number and message and digits(tonumber(number)) == ARGV[at + 1] then
    if id == message.id then redis.call('SADD', KEYS[4], id) end
    if message.ours then
      message.handle, message.created = next_handle(KEYS[5]), digits(math.floor(now / 1000000))
      member = write_ours(message, 0, seconds(now), string.sub(member, message.body_at))
    else
      member = with_attempts(member, message, 0)
    end
    redis.call('RPUSH', KEYS[1], member)
    redis.call('HDEL', KEYS[6], id)
    redis.call('HDEL', KEYS[7], id)
    redis.call('ZREM', KEYS[8], id)
    redis.call('ZREM', KEYS[9], id)
    moved = moved + 1
  end
end
count_tokens(KEYS[1], KEYS[3])
return moved
