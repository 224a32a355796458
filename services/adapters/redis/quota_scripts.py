"""Scripts of the counters of quotas: `services/core/quotas.py` in Lua, with Redis's clock.

Hashes `count:{quota}:…` have a field for each client or key. Each is of one generation: a field that is used moves to
the current one, and the scripts delete a whole hash once no field of it counts any more.
"""

# Keys with an expiry may be evicted when memory is full, and counters must not be. So they have no expiry, and each
# script deletes what has expired. KEYS[1] is a sorted set of the hashes by the time at which they do.
CLOCK_AND_EXPIRY = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, 10)) do
  redis.call('UNLINK', KEYS[1] .. ':' .. name)
  redis.call('ZREM', KEYS[1], name)
end
"""
# `name`: of the hashes; a generation lasts `lifetime` ms. A field is a text: seconds with their counts, oldest first.
GENERATIONS = """
local function generations(name, lifetime)
  local number = math.floor(now / lifetime)
  redis.call('ZADD', KEYS[1], 'NX', (number + 2) * lifetime, name .. ':' .. number)
  return KEYS[1] .. ':' .. name .. ':' .. number, KEYS[1] .. ':' .. name .. ':' .. (number - 1)
end
local function load(current, previous, field)
  local text = redis.call('HGET', current, field)
  if text then return text end
  text = redis.call('HGET', previous, field)
  if not text then return '' end
  redis.call('HDEL', previous, field)
  return text
end
local function parse_recent(text, counted)
  local recent, total = {}, 0
  for second, count in string.gmatch(text, '(%d+)=(%d+)') do
    second, count = tonumber(second), tonumber(count)
    if second * 1000 + counted > now then
      recent[#recent + 1] = {second, count}
      total = total + count
    end
  end
  return recent, total
end
local function add(recent, count)
  local second, newest = math.floor(now / 1000), recent[#recent]
  if newest and newest[1] >= second then newest[2] = newest[2] + count else recent[#recent + 1] = {second, count} end
end
local function format_recent(recent)
  local parts = {}
  for place, entry in ipairs(recent) do parts[place] = string.format('%d=%d', entry[1], entry[2]) end
  return table.concat(parts, ' ')
end
"""
# ARGV: the quota, the ms for which a request counts, then clients and numbers.
ADD_RECENT = (
    CLOCK_AND_EXPIRY
    + GENERATIONS
    + """
local counted = tonumber(ARGV[2])
local current, previous = generations(ARGV[1], counted)
local texts = {now}
for place = 3, #ARGV, 2 do
  local client, count = ARGV[place], tonumber(ARGV[place + 1])
  local recent = parse_recent(load(current, previous, client), counted)
  if count > 0 then add(recent, count) end
  while count < 0 and #recent > 0 do
    local newest = recent[#recent]
    local taken = math.min(-count, newest[2])
    newest[2], count = newest[2] - taken, count + taken
    if newest[2] == 0 then recent[#recent] = nil end
  end
  texts[#texts + 1] = format_recent(recent)
  redis.call('HSET', current, client, texts[#texts])
end
return texts
"""
)
# ARGV: the lifetime of records, the ms for which an attempt counts, then for each key: the key, the limit, the failures
# without a wait, the ms after which one is forgotten, the first wait, the number beyond which waits do not grow.
# A record is: failures, the time of the last one, then as above.
ATTEMPT = (
    CLOCK_AND_EXPIRY
    + GENERATIONS
    + """
local counted = tonumber(ARGV[2])
local current, previous = generations('attempts', tonumber(ARGV[1]))
local records, waits = {}, false
local function backoff(record)
  local excess = record.failures - record.free
  return excess > 0 and math.min(record.first * 2 ^ (excess - 1), record.forgiven) or 0
end
local function fail(record)
  if now < record.failed + backoff(record) then return end
  local left = math.max(record.failures - (now - record.failed) / record.forgiven, 0)
  record.failures, record.failed = math.min(left + 1, record.most), now
end
local function state(record)
  local wait, left = record.failed + backoff(record) - now, record.limit - record.total
  if record.limit > 0 and left <= 0 then
    local leaving, place = 1 - left, 1
    while leaving > record.recent[place][2] do
      leaving, place = leaving - record.recent[place][2], place + 1
    end
    wait = math.max(wait, record.recent[place][1] * 1000 + counted - now)
  end
  local reset = record.recent[1] and record.recent[1][1] * 1000 + counted - now or counted
  return {math.ceil(math.max(wait, 0)), math.max(left, 0), math.max(reset, 0)}
end
for place = 3, #ARGV, 6 do
  local text = load(current, previous, ARGV[place])
  local failures, failed, rest = string.match(text, '^(%S+) (%S+)(.*)$')
  local record = {key = ARGV[place], limit = tonumber(ARGV[place + 1]), free = tonumber(ARGV[place + 2]),
    forgiven = tonumber(ARGV[place + 3]), first = tonumber(ARGV[place + 4]), most = tonumber(ARGV[place + 5]),
    failures = tonumber(failures or 0), failed = math.min(tonumber(failed or 0), now)}
  record.recent, record.total = parse_recent(rest or '', counted)
  record.wait = state(record)[1]
  waits = waits or record.wait > 0
  records[#records + 1] = record
end
local states = {}
for place, record in ipairs(records) do
  if not waits then
    if record.limit > 0 then
      add(record.recent, 1)
      record.total = record.total + 1
    end
    fail(record)
  elseif record.wait > 0 then
    fail(record)
  end
  states[place] = state(record)
  if not waits or record.wait == 0 then states[place][1] = 0 end
  local text = string.format('%.3f %d ', record.failures, record.failed) .. format_recent(record.recent)
  redis.call('HSET', current, record.key, text)
end
return states
"""
)
# ARGV: the lifetime of records, then keys.
FORGIVE = (
    CLOCK_AND_EXPIRY
    + GENERATIONS
    + """
local current, previous = generations('attempts', tonumber(ARGV[1]))
for place = 2, #ARGV do
  local text = load(current, previous, ARGV[place])
  local failures, rest = string.match(text, '^(%S+)(.*)$')
  if failures then
    redis.call('HSET', current, ARGV[place], string.format('%.3f', math.max(failures - 1, 0)) .. rest)
  end
end
return 0
"""
)
