-- Lists failed messages without their payloads. KEYS: which, failed. ARGV: the way, from, to, limit.
-- Returns of each: id, number, what is known of it.
local command = ARGV[1] == 'newest' and 'ZREVRANGEBYSCORE' or 'ZRANGEBYSCORE'
local found = redis.call(command, KEYS[1], ARGV[2], ARGV[3], 'WITHSCORES', 'LIMIT', 0, ARGV[4])
local answer = {}
for at = 1, #found, 2 do
  local info = redis.call('HGET', KEYS[2], found[at])
  if info then
    local last = #answer
    answer[last + 1], answer[last + 2], answer[last + 3] = found[at], digits(tonumber(found[at + 1])), info
  end
end
return answer
