// SPDX-License-Identifier: MIT
#pragma once

// The core and its policies. Backends are included by name: <ublk/backends/memory.hpp>.

#include <ublk/batch_policy/driver_batches.hpp>
#include <ublk/batch_policy/each.hpp>
#include <ublk/batch_policy/per_wakeup.hpp>
#include <ublk/batch_policy/up_to.hpp>
#include <ublk/device.hpp>
#include <ublk/queue_policy/per_cpu.hpp>
#include <ublk/queue_policy/shared.hpp>
#include <ublk/when_all.hpp>
