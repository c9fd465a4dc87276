-- Adds messages that are neither waiting nor failed; all of them or none.
-- KEYS: ids, failed, seq, queues; of each queue: list, delayed, notify
-- ARGV: clock, number of queues, their names; of each message: queue, delay in us, kind, id, bytes, body
local ids, failed, seq, known = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now, queues = clock(ARGV[1]), tonumber(ARGV[2])

-- A key that holds something else is an error here, before anything has changed.
redis.call('SCARD', ids)
redis.call('HLEN', failed)
redis.call('GET', seq)
for queue = 1, queues do
  redis.call('LLEN', KEYS[2 + queue * 3])
  redis.call('ZCARD', KEYS[3 + queue * 3])
  redis.call('LLEN', KEYS[4 + queue * 3])
end

for queue = 1, queues do
  redis.call('SADD', known, ARGV[2 + queue])
  make_due_ready(KEYS[3 + queue * 3], KEYS[2 + queue * 3], now)
end

local added, created = 0, digits(math.floor(now / 1000000))
for at = 3 + queues, #ARGV, 6 do
  local queue, delay, kind = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
  local id, bytes, body = ARGV[at + 3], tonumber(ARGV[at + 4]), ARGV[at + 5]
  if redis.call('HEXISTS', failed, id) == 0 and redis.call('SADD', ids, id) == 1 then
    local due = seconds(now + delay)
    local member = body
    if kind ~= 'l' then
      local message = { handle = next_handle(seq), kind = kind, id = id, created = created, bytes = bytes }
      member = write_ours(message, 0, due, body)
    end
    if delay == 0 then
      redis.call('RPUSH', KEYS[2 + queue * 3], member)
    else
      redis.call('ZADD', KEYS[3 + queue * 3], due, member)
    end
    added = added + 1
  end
end

for queue = 1, queues do count_tokens(KEYS[2 + queue * 3], KEYS[4 + queue * 3]) end
return added
