-- The request that wrk repeats, from the environment: FORM is posted, with BASIC as
-- the client's name and secret if given, or else BEARER is sent as the access token. Prints one line for load.sh: requests,
-- microseconds, failures, and the latency at 50 and 99 %.
local form, basic, bearer = os.getenv("FORM"), os.getenv("BASIC"), os.getenv("BEARER")
if form then
  wrk.method = "POST"
  wrk.body = form
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
  if basic then wrk.headers["Authorization"] = "Basic " .. basic end
else
  wrk.headers["Authorization"] = "Bearer " .. bearer
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
