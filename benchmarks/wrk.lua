-- Sends the requests of a file in rotation and keeps the time of each; prints one line of JSON at the end.
-- A request is made when the answer before it on its connection has come, so these are the times of the answers too.

local ffi = require("ffi")
ffi.cdef [[
  struct timespec { long seconds; long nanoseconds; };
  int clock_gettime(int clock, struct timespec *time);
]]
local now = ffi.new("struct timespec")
local MONOTONIC = 1

function setup(thread)
  worker = thread
end

function init(arguments)
  times = {}
  requests = {}
  local file = assert(io.open(arguments[1], "rb"))
  for length in assert(file:read("*l")):gmatch("%d+") do
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
end

function request()
  ffi.C.clock_gettime(MONOTONIC, now)
  times[#times + 1] = tonumber(now.seconds) + tonumber(now.nanoseconds) / 1e9
  return requests[#times % #requests + 1]
end

function done(summary, latency, _)
  local texts = {}
  for i, time in ipairs(worker:get("times")) do
    texts[i] = string.format("%.6f", time)
  end
  local errors = summary.errors
  print(string.format(
    '\n{"requests":%d,"refused":%d,"broken":%d,"p50":%.1f,"p99":%.1f,"times":[%s]}',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), table.concat(texts, ",")))
end
