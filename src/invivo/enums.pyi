from enum import Enum as Enum
