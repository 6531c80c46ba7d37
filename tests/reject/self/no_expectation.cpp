// SPDX-License-Identifier: MIT
#ifdef UBLK_REJECT
#error no
#endif
int main() {}
