-- Takes messages: those whose reservation lapsed, then those that are ready.
-- KEYS: list, delayed, reserved, notify, held, paused, seq, queues
-- ARGV: clock, retry after in us, limit, bytes, queue
-- Returns whether the queue is paused, in how many us there will be something (-1: nothing in sight), and of each
-- message its handle, attempts, time of creation, id, and member as it was before.
local list, delayed, reserved, notify, held = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
if redis.call('SISMEMBER', KEYS[6], ARGV[5]) == 1 then return { 1, -1 } end
begin_when_full(held)
local now, retry_after = clock(ARGV[1]), tonumber(ARGV[2])
local limit, bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local answer, messages, taken = { 0, -1 }, {}, 0
-- As many as one command takes.
local AT_ONCE = 500

local function take(member)
  local message = read(member)
  if not message then member, message = adopt(member, KEYS[7], now) end
  message.attempts = math.min(message.attempts, ATTEMPTS_MAX) + 1
  taken = taken + 1
  message.member, messages[taken] = member, message
  bytes = bytes - message.bytes
end

-- Holds them in the order in which they were pushed, so that they lapse in it: the handles of ours tell, and Laravel's have
-- come in it.
local function hold()
  local sorted, are_ours = {}, true
  for i = 1, taken do
    sorted[i], are_ours = messages[i], are_ours and messages[i].ours
  end
  if are_ours then table.sort(sorted, function(a, b) return a.handle < b.handle end) end
  local next_score = free_scores(held, now + retry_after, taken)
  for first = 1, taken, AT_ONCE do
    local members, claims = {}, {}
    for i = first, math.min(taken, first + AT_ONCE - 1) do
      local message, lapses, at = sorted[i], next_score(), #members
      members[at + 1], members[at + 2] = lapses, with_attempts(message.member, message, message.attempts)
      claims[at + 1], claims[at + 2] = lapses, claim(message.handle, digits(message.attempts))
    end
    redis.call('ZADD', reserved, unpack(members))
    redis.call('ZADD', held, unpack(claims))
  end
  for i = 1, taken do
    local message, at = messages[i], #answer
    answer[at + 1], answer[at + 2], answer[at + 3] = message.handle, message.attempts, message.created
    answer[at + 4], answer[at + 5] = message.id, message.member
  end
end

local function wants_more() return taken < limit and bytes > 0 end

local lapsed_left = true
while wants_more() and lapsed_left do
  local members = redis.call('ZRANGEBYSCORE', reserved, '-inf', seconds(now), 'LIMIT', 0, math.min(limit - taken, 4))
  for i = 1, #members do
    if not wants_more() then break end
    redis.call('ZREM', reserved, members[i])
    take(members[i])
  end
  lapsed_left = #members > 0
end
-- What Laravel's worker has taken over and done leaves its handle here.
if not lapsed_left then redis.call('ZREMRANGEBYSCORE', held, '-inf', seconds(now)) end

-- Nobody reserves in the future: the clock was set back, and the reservation would last for that long. Laravel's own
-- reservations are left alone, which may be meant to last.
if wants_more() then
  local impossible = '(' .. seconds(now + 2 * retry_after + 1500000)
  local future = redis.call('ZRANGEBYSCORE', held, impossible, '+inf', 'WITHSCORES', 'LIMIT', 0, limit - taken)
  for i = 1, #future, 2 do
    if not wants_more() then break end
    redis.call('ZREM', held, future[i])
    local members = redis.call('ZRANGEBYSCORE', reserved, future[i + 1], future[i + 1])
    for j = 1, #members do
      local message = read(members[j])
      if message and claim(message.handle, digits(message.attempts)) == future[i] then
        redis.call('ZREM', reserved, members[j])
        take(members[j])
      end
    end
  end
end

make_due_ready(delayed, list, now)
while wants_more() do
  local member = redis.call('LPOP', list)
  if member then
    take(member)
  elseif make_due_ready(delayed, list, now) == 0 then
    break
  end
end
hold()
count_tokens(list, notify)

if taken > 0 then
  redis.call('SADD', KEYS[8], ARGV[5])
else
  for _, key in ipairs({ delayed, reserved }) do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] then
      local wait = math.max(0, math.ceil(tonumber(first[2]) * 1000000 - now))
      if answer[2] < 0 or wait < answer[2] then answer[2] = wait end
    end
  end
end
return answer
