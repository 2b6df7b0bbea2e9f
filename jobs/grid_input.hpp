// A file whose numbers are the start of a grid: a PNG picture, or a dataset of an HDF5 file. The
// coordinator reads all of it once, says what is wrong with it, and sends along how large it is and
// a sample of its content (content_sample.hpp); every rank then reads the rows of its own blocks,
// and fails where its file is another one. Not thread-safe.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <span>
#include <string>

#include "jobs/byte_ranges.hpp"
#include "jobs/grid_blocks.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

class GridInput {
 public:
  // What its numbers are like.
  struct Range {
    double least = 0;
    double greatest = 0;
    double mean = 0;
  };

  // "FILE.png": pixels of 8 or 16 bits, grey as it is, colours as their luminance (0.2126 red,
  // 0.7152 green, 0.0722 blue, the weights of ITU-R BT.709, of the stored values), scaled to 0..1;
  // x goes to the right, y down. "FILE.h5:/DATASET", or "FILE.h5" of one that has but one dataset
  // at its top: 2 or 3 dimensions of floating-point numbers, the last of which is x. The error is
  // one line for the user.
  static std::expected<GridInput, std::string> open(const std::string& name);

  const GridBlocks::Extents& extents() const { return extents_; }
  const Range& range() const { return range_; }

  // Calls visit(y, z, numbers) for each row of a block of this shape at `start`, in order; y and z
  // count from the block's own. The error is one line: the file is not what the coordinator read,
  // or cannot be read.
  using Visit = std::function<void(std::size_t y, std::size_t z, std::span<const double> numbers)>;
  std::expected<void, std::string> read(const GridBlocks::Extents& start,
                                        const kernels::StencilShape& shape,
                                        const Visit& visit) const;

  void encode(Writer& writer) const;
  // Bytes that encode() never makes are an error.
  static std::expected<GridInput, std::string> decode(Reader& reader);

 private:
  std::expected<void, std::string> measure();
  std::expected<void, std::string> check_content() const;
  std::expected<void, std::string> read_png(const GridBlocks::Extents& start,
                                            const kernels::StencilShape& shape,
                                            const Visit& visit) const;
  std::expected<void, std::string> read_hdf5(const GridBlocks::Extents& start,
                                             const kernels::StencilShape& shape,
                                             const Visit& visit) const;
  std::expected<void, std::string> find_range();

  InputFile file_;
  std::string dataset_;  // empty: it is a PNG
  GridBlocks::Extents extents_{};
  Range range_;
  mutable bool checked_ = false;
};

}  // namespace regroup
