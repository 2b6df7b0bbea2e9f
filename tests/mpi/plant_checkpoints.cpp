// Puts checkpoints into the directory of a run that has ended, for the tests of the verbs that look
// at them: `plant_checkpoints DIR`. The first two are sealed, with a field, the second with a part
// that is linked from the first; the third is unfinished. They are of job montecarlo and the
// greatest seed.
#include <cstdio>

#include "runtime/host/run_directory.hpp"
#include "tests/host/checkpoints.hpp"

int main(int argc, char** argv) {
  using namespace regroup;
  if (argc != 2) return 2;
  const auto status = read_status(argv[1]);
  if (!status) return std::fprintf(stderr, "%s\n", status.error().c_str()), 2;
  const CheckpointStore store(argv[1], status->run);
  const auto first = test::take(store, {.checkpoint = test::number(1), .grid = {6, 9}});
  const auto second =
      test::take(store, {.checkpoint = test::number(2), .linked = test::number(1), .grid = {6, 9}});
  const auto third = test::write_part_of(store, {.checkpoint = test::number(3)}, 0);
  return first && second && third ? 0 : 1;
}
