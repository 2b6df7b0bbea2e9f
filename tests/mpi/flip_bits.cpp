// Flips bits of a run's newest checkpoint, one at a time, all over its files, and tells how many of
// the flips a run that goes on would not have noticed: `flip_bits DIR FLIPS SEED`. The checkpoint
// is the only one, and is as it was at the end. Exit status: 0 every flip was noticed, 1 not, 2
// there is no right checkpoint to begin with.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "runtime/host/run_directory.hpp"
#include "tests/host/checkpoints.hpp"

namespace {

using namespace regroup;

// Bits of all files, one after another.
class Bits {
 public:
  explicit Bits(const std::filesystem::path& directory) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
      if (!entry.is_regular_file()) continue;
      files_.push_back({entry.path(), count_, 8 * entry.file_size()});
      count_ += 8 * entry.file_size();
    }
  }
  std::uint64_t count() const { return count_; }
  std::size_t files() const { return files_.size(); }

  void flip(std::uint64_t bit) const {
    for (const File& file : files_)
      if (bit >= file.first && bit - file.first < file.bits)
        return test::flip_bit(file.path, bit - file.first);
  }

 private:
  struct File {
    std::filesystem::path path;
    std::uint64_t first;
    std::uint64_t bits;
  };
  std::vector<File> files_;
  std::uint64_t count_ = 0;
};

bool is_right(const CheckpointStore& store) {
  const auto newest = store.open_newest_valid();
  return newest && newest->checkpoint;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const auto status = read_status(argv[1]);
  if (!status) return std::fprintf(stderr, "%s\n", status.error().c_str()), 2;
  const CheckpointStore store(argv[1], status->run);
  if (!is_right(store)) return 2;
  const Bits bits(std::filesystem::path(argv[1]) / "checkpoints");
  const std::uint64_t flips = std::strtoull(argv[2], nullptr, 10);
  std::mt19937_64 random(std::strtoull(argv[3], nullptr, 10));
  std::uint64_t unnoticed = 0;
  for (std::uint64_t flip = 0; flip < flips; ++flip) {
    const std::uint64_t bit = random() % bits.count();
    bits.flip(bit);
    if (is_right(store)) ++unnoticed;
    bits.flip(bit);
  }
  std::printf("%llu flips in %llu bits of %zu files, %llu unnoticed\n",
              static_cast<unsigned long long>(flips), static_cast<unsigned long long>(bits.count()),
              bits.files(), static_cast<unsigned long long>(unnoticed));
  return unnoticed == 0 && is_right(store) ? 0 : 1;
}
