local suspended = obj.spec.suspend == true

local stalled = false
local assumed = false
if obj.status ~= nil then
  for _, condition in ipairs(obj.status.conditions or {}) do
    if condition.type == "Stalled" and condition.status == "True" then
      stalled = true
    end
  end
  local release = obj.status.release
  assumed = release ~= nil and release.attribution ~= "Confirmed"
end

-- There is no action that approves a promotion: Git says what is approved, and would take it back.
local actions = {}
actions["reconcile"] = { ["disabled"] = false }
actions["suspend"] = { ["disabled"] = suspended }
actions["resume"] = { ["disabled"] = not suspended }
-- Frees a digest that used up its attempts, and deploys again what drifted, or is only assumed or inferred to run.
actions["reset"] = { ["disabled"] = suspended or not (stalled or assumed) }
return actions
