// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/mapping.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/operation.hpp>
#include <ublk/kernel/setup_refused.hpp>
#include <ublk/kernel/user_data.hpp>

/// What the simulator has in common with Linux behind the seam to the kernel (kernel/kernel.hpp).
namespace ublk::inline v0::sim {

using ublk::detail::buffer_address;
using ublk::detail::control_command;
using ublk::detail::control_pending;
using ublk::detail::control_ticket;
using ublk::detail::deadline;
using ublk::detail::mapping;
using ublk::detail::opcode;
using ublk::detail::operation;
using ublk::detail::port_needs;
using ublk::detail::setup_refused;
using ublk::detail::submission;
using ublk::detail::user_data;

}  // namespace ublk::inline v0::sim
