-- Moves messages to the failed set. KEYS: reserved, held, ids, seq, failed, payloads, all, of the queue, last
-- ARGV: clock, queue, reason; of each: handle, attempts, kind, bytes, body
-- Returns the places of those that are stale.
local ids, failed, payloads = KEYS[3], KEYS[5], KEYS[6]
local now, stale = clock(ARGV[1]), {}

-- Sees to it that the id is free: of a job that failed before nothing but the attempts may differ, else it gets a suffix.
local function make_room(id, member, message, number)
  local before = redis.call('HGET', payloads, id)
  if not before then return id end
  local other = read(before)
  if not other or other.handle ~= message.handle then
    return id .. '-' .. string.sub(redis.sha1hex(member .. number), 1, 8)
  end
  local info = cjson.decode(redis.call('HGET', failed, id))
  redis.call('ZREM', KEYS[7], id)
  if info.queue == ARGV[2] then redis.call('ZREM', KEYS[8], id) end
  return id
end

for at = 4, #ARGV, 5 do
  local member, message = find_held(KEYS[1], KEYS[2], ARGV[at], ARGV[at + 1])
  if member then
    redis.call('ZREM', KEYS[1], member)
    redis.call('ZREM', KEYS[2], claim(ARGV[at], ARGV[at + 1]))
    redis.call('SREM', ids, message.id)
    local name = message.id
    member, message = shrink(member, message, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], KEYS[4], ids)
    redis.call('SREM', ids, name)
    -- The time of the failure, and its number: no two are the same, and they never go back.
    local number = digits(math.max(now, tonumber(redis.call('GET', KEYS[9]) or '0') + 1))
    redis.call('SET', KEYS[9], number)
    local id = make_room(name, member, message, number)
    local info = { queue = ARGV[2], reason = ARGV[3], at = digits(now), bytes = digits(message.bytes) }
    redis.call('HSET', failed, id, cjson.encode(info))
    redis.call('HSET', payloads, id, member)
    redis.call('ZADD', KEYS[7], number, id)
    redis.call('ZADD', KEYS[8], number, id)
  else
    stale[#stale + 1] = (at - 4) / 5
  end
end
return stale
