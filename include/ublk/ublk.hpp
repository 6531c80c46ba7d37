// SPDX-License-Identifier: MIT
#pragma once

// The core and its policies. Backends are included by name: <ublk/backends/memory.hpp>.

#include <ublk/config.hpp>

#ifdef UBLK_COMPILES
#include <ublk/device.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/policy/with.hpp>
#include <ublk/stats.hpp>
#include <ublk/thread_set.hpp>
#include <ublk/when_all.hpp>
#endif
