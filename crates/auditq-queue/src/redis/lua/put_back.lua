-- Adds failed messages that are kept elsewhere, as new, and notes them until they are forgotten there.
-- KEYS: list, delayed, notify, ids, seq, queues, returning. ARGV: clock, queue; of each: id, kind, bytes, body
local list, delayed, ids, returning = KEYS[1], KEYS[2], KEYS[4], KEYS[7]
local now = clock(ARGV[1])

-- True when an earlier call has added it, and nobody has taken it since. Whether someone has cannot always be known:
-- then it is added again, which is safe.
local function is_back(id, member, message)
  if redis.call('SISMEMBER', returning, id) == 0 then return false end
  if message.ours then return redis.call('SISMEMBER', ids, id) == 1 end
  return redis.call('LPOS', list, member) and true or false
end

redis.call('SADD', KEYS[6], ARGV[2])
make_due_ready(delayed, list, now)
for at = 3, #ARGV, 4 do
  local id, kind, member, message = ARGV[at], ARGV[at + 1], ARGV[at + 3], nil
  if kind == 'l' then
    message = read_laravels(member)
    if message then member = with_attempts(member, message, 0) end
  else
    message = { ours = true, handle = next_handle(KEYS[5]), kind = kind, id = id, bytes = tonumber(ARGV[at + 2]) }
    message.created = digits(math.floor(now / 1000000))
    member = write_ours(message, 0, seconds(now), member)
  end
  if not is_back(id, member, message or {}) then
    redis.call('SADD', returning, id)
    redis.call('SADD', ids, id)
    redis.call('RPUSH', list, member)
  end
end
count_tokens(list, KEYS[3])
return 1
